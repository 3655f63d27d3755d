//! A site that outgrows its budget, as its operator sees it: what `status` says, when, and what helps.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::leaf::{operator_with_site, stack};
use support::{Operator, Ran, eventually};

fn declare(operator: &Operator, room: &str) {
    operator.write("stack.toml", &format!("{}{room}\n", stack(operator)));
}

/// `status` as soon as both edges have looked at everything and say `expected`.
fn told(operator: &Operator, expected: &str) -> Ran {
    eventually(expected, Duration::from_secs(30), || {
        let ran = operator.run(&["status"]);
        ran.stdout().contains(expected).then_some(ran)
    })
}

fn copies(status: &Value) -> &Vec<Value> {
    status["sites"][0]["copies"].as_array().unwrap()
}

#[test]
fn an_operator_is_told_before_there_is_no_room_and_when_there_is_none() {
    let operator = operator_with_site();
    for number in 0..5 {
        std::fs::write(operator.home().join(format!("public/{number}.png")), vec![number; 200_000]).unwrap();
    }
    declare(&operator, "budget = \"5 MB\"");
    operator.up();
    let well = told(&operator, "all is well").success();
    assert!(!well.stdout().contains("budget"), "{well:?}");
    let status = operator.json(&["status"]);
    for copy in copies(&status) {
        assert_eq!((&copy["bytes"], &copy["room"]["limit"]), (&copy["bytes_known"], &5_000_000.into()), "{copy:#}");
    }

    // It fits, and there is not much left: a warning, and all is well.
    declare(&operator, "budget = \"1200 kB\"");
    operator.up();
    let soon = told(&operator, "it needs 1.0 MB, and its budget is 1.2 MB").success();
    assert!(soon.stdout().contains("help: raise its `budget` in the stack file"), "{soon:?}");
    let status = operator.json(&["status"]);
    assert_eq!((&status["well"], status["problems"].as_array().unwrap().len()), (&true.into(), 0));
    assert_eq!(status["warnings"].as_array().unwrap().len(), 2, "at home and at the office: {status:#}");

    // Two more pictures: one has no room, and the operator did not say that anything may go.
    for number in 5..7 {
        std::fs::write(operator.home().join(format!("public/{number}.png")), vec![number; 200_000]).unwrap();
    }
    declare(&operator, "budget = \"1201 kB\"");
    operator.up();
    let full = told(&operator, "it needs 1.4 MB, and its budget is 1.2 MB: 1 file is passed through (200 kB)").exits(3);
    assert!(full.stdout().contains("1.2 MB of 1.4 MB"), "{full:?}");

    // Now they may: nothing is wrong, and what is missing is said.
    declare(&operator, "budget = \"1201 kB\"\nkeep = \"budget\"");
    operator.up();
    let without =
        told(&operator, "office: 1 file (200 kB) left out, read least: passed through when asked for").success();
    assert!(without.stdout().contains("all is well"), "{without:?}");
    operator.run(&["plan"]).success();
    let status = operator.json(&["status"]);
    for copy in copies(&status) {
        assert_eq!((&copy["complete"], &copy["room"]["left_out"]), (&false.into(), &1.into()), "{copy:#}");
        assert_eq!(copy["room"]["keep"], "budget");
        assert!(copy["bytes"].as_u64().unwrap() <= 1_201_000);
    }
    for port in [operator.home_port, operator.office_port] {
        for number in 0..7u8 {
            let host = format!("leaf.localhost:{}", operator.home_port);
            let picture = operator.curl(&host, port, &format!("/{number}.png"), &[]).ok();
            assert_eq!(picture.body, vec![number; 200_000]);
        }
    }

    declare(&operator, "budget = \"5 MB\"");
    operator.up();
    let well = told(&operator, "all is well");
    let status = eventually("everything is there", Duration::from_secs(30), || {
        let status = operator.json(&["status"]);
        copies(&status).iter().all(|copy| copy["complete"] == true).then_some(status)
    });
    assert_eq!(status["warnings"], Value::Array(Vec::new()), "{well:?}");
    operator.run(&["down", "--purge", "--with-archive", "--yes"]).success();
}
