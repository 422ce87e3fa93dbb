//! OCSP staples from files: sent while they hold, and never in the way.

use crate::support::app::App;
use crate::support::balancer::{Balancer, Reloaded, evenkeel, plain};
use crate::support::client::Client;
use crate::support::ocsp::Status;
use crate::support::tls::{Certificate, Shop, Speaker};

const LONG_AGO: &str = "20200101000000Z";
const LONG_AFTER: Option<&str> = Some("20990101000000Z");

fn configuration(shop: &Shop, app: std::net::SocketAddr) -> String {
    let file = shop.path("shop.ocsp");
    let tls = shop.tls(&["shop"], "").replace("shop.key", &format!("shop.key, ocsp: {}", file.display()));
    plain(&[app], &tls, "")
}

#[test]
fn a_staple_is_sent_while_it_holds() {
    let (app, certificate) = (App::saying("hello"), Certificate::named(&["shop.example"]));
    let shop = Shop::new(&[("shop", &certificate)]);
    let file = shop.path("shop.ocsp");
    let good = certificate.ocsp(Status::Good, LONG_AGO, LONG_AFTER);
    std::fs::write(&file, &good).expect("writable");
    let text = configuration(&shop, app.address);
    let balancer = Balancer::start(&text);
    let check = |sent: &[u8]| {
        for speaker in [Speaker::tls12(), Speaker::tls13()] {
            let stream = speaker.connect(balancer.address("web"), "shop.example").expect("hands are shaken");
            assert!(certificate.is_shown_by(&stream));
            assert_eq!(Client::over_tls(stream).get("/").text(), "hello");
            assert_eq!(speaker.staple(), sent);
        }
    };
    check(&good);
    let expiry =
        || balancer.series("evenkeel_tls_listener_ocsp_expiry_timestamp_seconds", &[("listener", "web")]);
    assert_eq!(expiry(), [4_070_908_800.0], "the first of January 2099");
    let over = certificate.ocsp(Status::Good, LONG_AGO, Some("20200108000000Z"));
    let endless = certificate.ocsp(Status::Good, LONG_AGO, None);
    let unknown = certificate.ocsp(Status::Unknown, LONG_AGO, LONG_AFTER);
    let others = Certificate::named(&["shop.example"]).ocsp(Status::Good, LONG_AGO, LONG_AFTER);
    let revoked = certificate.ocsp(Status::Revoked, LONG_AGO, LONG_AFTER);
    for (contents, is_sent, said) in [
        (Some(&over), false, "is an OCSP response that has expired"),
        (Some(&endless), true, ""),
        (Some(&unknown), false, "does not know the certificate"),
        (Some(&others), false, "is an OCSP response for another certificate"),
        (Some(&revoked), true, "says that the certificate is revoked"),
        (Some(&vec![0x30]), false, "is no OCSP response in DER"),
        (None, false, "shop.ocsp is not there"),
    ] {
        match contents {
            Some(contents) => std::fs::write(&file, contents).expect("writable"),
            None => std::fs::remove_file(&file).expect("removable"),
        }
        assert_eq!(balancer.reload(&text), Reloaded::Taken, "a staple keeps nobody out: {said}");
        check(contents.filter(|_| is_sent).map_or(&[], |contents| contents));
        let line = balancer.log.wait_for(said);
        assert!(said.is_empty() || line.contains("tls.certificates[0].ocsp: "), "{line}");
    }
}

#[test]
fn check_warns_of_staples_that_are_of_no_use() {
    let certificate = Certificate::named(&["shop.example"]);
    let shop = Shop::new(&[("shop", &certificate)]);
    let said = |contents: Option<Vec<u8>>| {
        if let Some(contents) = contents {
            std::fs::write(shop.path("shop.ocsp"), contents).expect("writable");
        }
        let file = shop.path("evenkeel.yaml");
        std::fs::write(&file, configuration(&shop, ([127, 0, 0, 1], 1).into())).expect("writable");
        let output = evenkeel().arg("check").arg(&file).output().expect("it runs");
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = said(None);
    assert!(text.contains("shop.ocsp is not there") && text.contains("1 warning"), "{text}");
    let text = said(Some(certificate.ocsp(Status::Good, LONG_AGO, LONG_AFTER)));
    assert_eq!(text.lines().count(), 1, "{text}");
    let text = said(Some(certificate.ocsp(Status::Good, LONG_AGO, Some("20200108000000Z"))));
    assert!(text.contains("has expired") && text.contains("1 warning"), "{text}");
    let text = said(Some(certificate.ocsp(Status::Good, "20980101000000Z", LONG_AFTER)));
    assert!(text.contains("of the future") && text.contains("1 warning"), "{text}");
}
