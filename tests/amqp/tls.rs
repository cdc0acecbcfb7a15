//! TLS between this library and the broker.

use std::{fs, process::Command, time::Duration};

use rpc_core::Client;
use tests::{rabbitmq::RabbitMq, served::sum, soon, unique};

use crate::{ALONE, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and openssl"]
async fn certificate_of_the_broker_is_checked() {
    let _alone = ALONE.lock().await;
    let folder = std::env::temp_dir().join(unique());
    fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.2"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &path("key.pem"), "-out", &path("certificate.pem")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let port = RabbitMq::other_port();
    let broker = RabbitMq::start(&format!(
        "listeners.ssl.1 = 127.0.0.2:{port}\nssl_options.certfile = {certificate}\n\
         ssl_options.keyfile = {key}\nssl_options.verify = verify_none\n",
        certificate = path("certificate.pem"),
        key = path("key.pem"),
    ));
    let endpoint = format!("amqps://127.0.0.2:{port}?queue={}", unique());
    let trusting = format!("{endpoint}&cacertfile={}", path("certificate.pem"));
    let _server = server(&trusting, &[]);
    let client = Client::connect(&trusting).await.unwrap();
    assert_eq!(soon("a call", sum::call(&client, 2, 3)).await.unwrap(), 5);
    for (endpoint, expected) in [
        (endpoint.clone(), "certificate"),
        (format!("{endpoint}&cacertfile=/none"), "cannot read the certificates in /none"),
        (format!("amqps://{}", broker.address()), "corrupt message"),
        (format!("amqp://127.0.0.2:{port}"), "no server answered"),
    ] {
        let connecting = Client::builder().connect_timeout(Duration::from_secs(1));
        let error = format!("{:?}", connecting.connect(&endpoint).await.unwrap_err());
        assert!(error.contains(expected), "{endpoint}: {error}");
    }
    fs::remove_dir_all(&folder).unwrap();
}
