//! The FNV-1a hash, which is the same on every machine and in every version.
//! <https://www.rfc-editor.org/rfc/rfc9923>

/// Returns the 64-bit FNV-1a hash of `bytes`.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
