//! A race between the addresses of one host, as in
//! [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305): an address that does not answer must not keep
//! the others from being tried.

use std::{future::Future, net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time;

use crate::transport::TransportError;

/// The time that an address has before the next one is tried as well. RFC 8305 recommends 250 ms.
const HEAD_START: Duration = Duration::from_millis(250);
/// The shortest head start, however many addresses there are. RFC 8305 calls it the minimum.
const MIN_HEAD_START: Duration = Duration::from_millis(10);

/// Returns the head start of each of `addresses`, all of which are tried in the first half of
/// `timeout`, if there are not too many.
pub(super) fn head_start(addresses: usize, timeout: Duration) -> Duration {
    let addresses = u32::try_from(addresses.max(1)).unwrap_or(u32::MAX);
    (timeout / 2 / addresses).clamp(MIN_HEAD_START, HEAD_START)
}

/// Connects to the first of `addresses` that answers, and drops the other attempts. An address is
/// tried when the one before it has failed, or has not answered within `head_start`. The error has
/// the reason of each address.
pub(super) async fn first<T, F>(
    addresses: &[SocketAddr],
    head_start: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, TransportError>
where
    F: Future<Output = Result<T, TransportError>>,
{
    let mut reasons: Vec<Option<TransportError>> = addresses.iter().map(|_| None).collect();
    let mut waiting = addresses.iter().enumerate();
    let mut attempts = FuturesUnordered::new();
    loop {
        if let Some((index, address)) = waiting.next() {
            let attempt = connect(*address);
            attempts.push(async move { (index, attempt.await) });
        }
        let more = waiting.len() > 0;
        tokio::select! {
            biased;
            outcome = attempts.next() => match outcome {
                Some((_, Ok(connected))) => return Ok(connected),
                Some((index, Err(reason))) => reasons[index] = Some(reason),
                None => return Err(all_failed(addresses, reasons)),
            },
            () = time::sleep(head_start), if more => {}
        }
    }
}

/// Makes one error of the reasons why the addresses have failed.
fn all_failed(
    addresses: &[SocketAddr],
    mut reasons: Vec<Option<TransportError>>,
) -> TransportError {
    if reasons.len() == 1
        && let Some(Some(reason)) = reasons.pop()
    {
        return reason;
    }
    let failed = addresses.iter().zip(reasons);
    let failed = failed.filter_map(|(address, reason)| Some(format!("{address}: {}", reason?)));
    failed.collect::<Vec<_>>().join("; ").into()
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, future::pending};

    use super::*;

    const SILENT: u16 = 1;
    const REFUSING: u16 = 2;
    const ANSWERING: u16 = 3;
    const SLOW: u16 = 4;

    /// Races addresses whose port says how they answer. Returns the outcome, the time that the race
    /// took, and the number of attempts.
    async fn race(ports: &[u16]) -> (Result<u16, String>, Duration, usize) {
        let addresses: Vec<_> =
            ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect();
        let started = time::Instant::now();
        let tried = RefCell::new(Vec::new());
        let outcome = first(&addresses, HEAD_START, |address| {
            tried.borrow_mut().push(address);
            async move {
                match address.port() {
                    SILENT => pending().await,
                    REFUSING => return Err("refused".into()),
                    SLOW => time::sleep(5 * HEAD_START / 2).await,
                    _ => {}
                }
                Ok(address.port())
            }
        });
        let outcome = outcome.await.map_err(|error| error.to_string());
        (outcome, started.elapsed(), tried.into_inner().len())
    }

    #[tokio::test(start_paused = true)]
    async fn first_answer_wins() {
        let cases: [(&[u16], u16, u32, usize); 6] = [
            (&[ANSWERING, SILENT], ANSWERING, 0, 1),
            (&[SILENT, ANSWERING], ANSWERING, 1, 2),
            (&[SILENT, SILENT, ANSWERING], ANSWERING, 2, 3),
            (&[REFUSING, ANSWERING], ANSWERING, 0, 2),
            (&[SILENT, REFUSING, ANSWERING], ANSWERING, 1, 3),
            // The slow one answers before the last one gets its turn.
            (&[SLOW, SILENT, SILENT, SILENT, ANSWERING], SLOW, 2, 3),
        ];
        for (ports, winner, head_starts, attempts) in cases {
            let (outcome, took, tried) = race(ports).await;
            assert_eq!(outcome, Ok(winner), "{ports:?}");
            assert!(took >= head_starts * HEAD_START, "{ports:?}: {took:?}");
            assert!(took < (head_starts + 1) * HEAD_START, "{ports:?}: {took:?}");
            assert_eq!(tried, attempts, "{ports:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn error_has_the_reason_of_each_address() {
        assert_eq!(race(&[REFUSING]).await.0, Err("refused".to_owned()));
        let both = "127.0.0.1:2: refused; 127.0.0.1:2: refused".to_owned();
        assert_eq!(race(&[REFUSING, REFUSING]).await.0, Err(both));
    }

    #[test]
    fn all_addresses_are_tried_in_half_of_the_time() {
        let second = Duration::from_secs(1);
        assert_eq!(head_start(1, 8 * second), HEAD_START);
        assert_eq!(head_start(2, second), HEAD_START);
        assert_eq!(head_start(10, second), second / 20);
        assert_eq!(head_start(1_000, second), MIN_HEAD_START);
        assert_eq!(head_start(0, second), HEAD_START);
    }
}
