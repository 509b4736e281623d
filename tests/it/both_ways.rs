//! What an exchange is, whatever is spoken on either side: every behaviour here runs over the four combinations of
//! HTTP/1.1 and HTTP/2, in and out.

use crate::both_ways_kit::{
    Act, Back, COMBINATIONS, Message, Speaks, all, ask, failing_first, front, ok, over_all,
};
use crate::h2_client;
use testkit::{eventually, pattern};

#[test]
fn a_request_and_its_answer_pass_with_their_fields() {
    let act = |request: &Message| {
        let answer = Message::default()
            .with("x-mine", "1")
            .with("set-cookie", "a=1")
            .with("set-cookie", "b=2");
        let (method, path) = &request.line;
        Act::Answer(200, answer.body(format!("{method} {path}"), true))
    };
    over_all(act, "", |ask, back| {
        let mut request = Message::get("/a/b?c=d&e")
            .with("x-a", "1")
            .with("cookie", "a=1; b=2")
            .with("te", "trailers");
        request.host = "Test.example:99".to_owned();
        let answer = ask(&request);
        assert_eq!((answer.status, answer.text().as_str()), (200, "GET /a/b?c=d&e"));
        assert_eq!(answer.message.field("x-mine"), Some("1"));
        assert_eq!(answer.message.all("set-cookie"), ["a=1", "b=2"]);
        let seen = back.last();
        assert_eq!(seen.host, "Test.example:99");
        assert_eq!(
            (seen.field("x-a"), seen.field("te")),
            (Some("1"), Some("trailers"))
        );
        assert_eq!(seen.field("cookie"), Some("a=1; b=2"));
        assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(seen.field("x-forwarded-host"), Some("Test.example:99"));
    });
}

#[test]
fn bodies_of_all_sizes_pass_both_ways_told_and_untold() {
    let act = |request: &Message| {
        Act::Answer(
            200,
            Message::default().body(request.body.clone(), request.announced),
        )
    };
    over_all(act, "", |ask, back| {
        for len in [1, 4095, 16_384, 16_385, 300_000, 2_000_000] {
            let body: Vec<u8> = pattern::bytes(len).iter().map(|byte| b'a' + byte % 26).collect();
            for announced in [true, false] {
                let answer = ask(&Message::new("POST", "/").body(body.clone(), announced));
                assert!(answer.whole && answer.message.body == body, "{len} {announced}");
                let seen = back.last();
                assert_eq!((seen.announced, seen.body.len()), (announced, len));
            }
        }
        let answer = ask(&Message::new("POST", "/").body("", true));
        assert!(answer.whole && answer.message.body.is_empty());
    });
}

#[test]
fn answers_without_a_body_have_none() {
    let act = |request: &Message| match request.line.1.as_str() {
        "/none" => Act::Answer(204, Message::default()),
        "/same" => Act::Answer(304, Message::default().with("etag", "\"a\"")),
        "/empty" => ok(""),
        _ => ok("hello"),
    };
    over_all(act, "", |ask, _| {
        for (path, status) in [("/none", 204), ("/same", 304), ("/empty", 200)] {
            let answer = ask(&Message::get(path));
            assert_eq!((answer.status, answer.text().as_str()), (status, ""));
            assert!(answer.whole, "{path}");
        }
        assert_eq!(ask(&Message::get("/same")).message.field("etag"), Some("\"a\""));
        let answer = ask(&Message::new("HEAD", "/"));
        assert_eq!((answer.status, answer.text().as_str()), (200, ""));
        assert_eq!(answer.message.field("content-length"), Some("5"));
    });
}

#[test]
fn trailers_pass_both_ways() {
    let act = |request: &Message| {
        let sum = all(&request.trailers, "x-sum").concat();
        let answer = Message::default().body("hi", false);
        Act::Answer(200, answer.trailer("grpc-status", &sum).trailer("x-end", "yes"))
    };
    over_all(act, "", |ask, back| {
        let request = Message::new("POST", "/")
            .body("body", false)
            .trailer("x-sum", "42");
        let answer = ask(&request);
        assert_eq!(answer.text(), "hi");
        assert_eq!(all(&answer.message.trailers, "grpc-status"), ["42"]);
        assert_eq!(all(&answer.message.trailers, "x-end"), ["yes"]);
        assert_eq!(back.last().body, b"body");
    });
}

#[test]
fn interim_answers_pass() {
    let act = |_: &Message| {
        Act::Hint(
            vec![("link".to_owned(), "</a.css>".to_owned())],
            Message::default().body("hi", true),
        )
    };
    over_all(act, "", |ask, _| {
        let answer = ask(&Message::get("/"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "hi"));
        assert_eq!(all(&answer.hints, "link"), ["</a.css>"]);
    });
}

#[test]
fn an_endpoint_that_dies_is_told_from_one_that_answers() {
    let act = |request: &Message| match request.line.1.as_str() {
        "/die" => Act::Die,
        "/half" => Act::DieAfter(b"the beginning".to_vec()),
        _ => ok("hi"),
    };
    over_all(act, "", |ask, _| {
        let answer = ask(&Message::get("/die"));
        assert_eq!((answer.status, answer.token()), (502, Some("upstream_reset")));
        let answer = ask(&Message::get("/half"));
        assert!(matches!(answer.status, 0 | 200) && !answer.whole);
        assert!("the beginning".starts_with(&answer.text()));
        assert_eq!(ask(&Message::get("/")).text(), "hi");
    });
}

#[test]
fn an_endpoint_that_does_not_answer_is_given_up_in_time_and_told() {
    let act = |_: &Message| Act::Hang;
    over_all(act, "timeouts = { response = \"200ms\" }", |ask, back| {
        let answer = ask(&Message::get("/"));
        assert_eq!((answer.status, answer.token()), (504, Some("response_timeout")));
        eventually("the endpoint need not go on", || back.running() == 0);
    });
}

#[test]
fn what_the_gateway_refuses_is_refused_alike() {
    over_all(
        |_| ok("hi"),
        "paths = [\"/app\"]",
        |ask, back| {
            for (message, status, token) in [
                (Message::get("/nowhere"), 404, "no_route"),
                (
                    Message::get("/app").with("expect", "the moon"),
                    417,
                    "expectation_failed",
                ),
            ] {
                let answer = ask(&message);
                assert_eq!((answer.status, answer.token()), (status, Some(token)));
            }
            assert_eq!(back.hits(), 0);
            assert_eq!(ask(&Message::get("/app")).text(), "hi");
        },
    );
}

#[test]
fn what_speaks_of_one_connection_does_not_reach_the_other() {
    let act = |_: &Message| {
        let answer = Message::default().with("proxy-authenticate", "Basic");
        Act::Answer(200, answer.body("hi", true))
    };
    over_all(act, "", |ask, back| {
        let answer = ask(&Message::get("/").with("proxy-authorization", "Basic x"));
        assert_eq!(answer.text(), "hi");
        for gone in [
            "proxy-authenticate",
            "connection",
            "keep-alive",
            "transfer-encoding",
        ] {
            assert!(answer.message.all(gone).is_empty(), "{gone}");
        }
        let seen = back.last();
        for gone in [
            "proxy-authorization",
            "keep-alive",
            "upgrade",
            "transfer-encoding",
            "x-tidegate-error",
        ] {
            assert!(seen.all(gone).is_empty(), "{gone}");
        }
    });
}

#[test]
fn edits_of_a_route_reach_the_other_side() {
    let more = r#"
        host = "api.internal"
        request_headers = { set = { "X-Set" = "1" }, remove = ["X-Gone"] }
        response_headers = { set = { "X-Back" = "2" }, remove = ["X-Mine"] }
        strip_prefix = "/app"
    "#;
    let act = |_: &Message| Act::Answer(200, Message::default().with("x-mine", "1").body("hi", true));
    over_all(act, more, |ask, back| {
        let answer = ask(&Message::get("/app/x").with("x-gone", "1"));
        assert_eq!(
            (answer.message.field("x-back"), answer.message.field("x-mine")),
            (Some("2"), None)
        );
        let seen = back.last();
        assert_eq!((seen.host.as_str(), seen.line.1.as_str()), ("api.internal", "/x"));
        assert_eq!((seen.field("x-set"), seen.field("x-gone")), (Some("1"), None));
    });
}

#[test]
fn a_request_that_may_be_repeated_goes_to_another_endpoint_with_its_body_and_others_do_not() {
    for (inner, outer) in COMBINATIONS {
        for act in [Act::Die, Act::Answer(503, Message::default().body("no", true))] {
            for announced in [true, false] {
                eprintln!("{inner:?} in, {outer:?} out, {announced} {act:?}");
                let (gateway, first, second) = failing_first(outer, act.clone());
                let put = Message::new("PUT", "/").body("again", announced);
                let answer = ask(inner, &gateway, &put);
                assert_eq!((answer.status, answer.text().as_str()), (200, "again"));
                assert_eq!((first.hits(), second.hits()), (1, 1));
                let post = Message::new("POST", "/").body("once", announced);
                let answer = ask(inner, &gateway, &post);
                assert!(matches!(answer.status, 502 | 503), "{}", answer.status);
                assert_eq!((first.hits(), second.hits()), (2, 1));
            }
        }
    }
}

#[test]
fn a_client_that_leaves_is_gone_for_the_endpoint_too() {
    for (inner, outer) in COMBINATIONS {
        eprintln!("{inner:?} in, {outer:?} out");
        let back = Back::start(outer, |request| match request.line.1.as_str() {
            "/held" => Act::Hang,
            _ => ok("hi"),
        });
        let gateway = front(outer, &back, "");
        match inner {
            Speaks::H1 => {
                let mut conn = gateway.connect();
                conn.send("GET /held HTTP/1.1\r\nHost: test\r\n\r\n");
                eventually("the request is there", || back.hits() == 1);
                conn.reset();
            }
            Speaks::H2 => {
                let client = h2_client::Client::connect(&gateway.web());
                let begun = client.run(client.begin(h2_client::get("/held"), true)).unwrap();
                eventually("the request is there", || {
                    client.turn();
                    back.hits() == 1
                });
                drop(begun);
                client.turn();
                eventually("the endpoint is told", || {
                    client.turn();
                    back.running() == 0
                });
            }
        }
        eventually("the endpoint is told", || back.running() == 0);
        assert_eq!(ask(inner, &gateway, &Message::get("/")).text(), "hi");
        if let Back::H2(server) = &back {
            assert_eq!(server.connections(), 1, "a reset costs no connection");
        }
    }
}
