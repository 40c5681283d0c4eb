//! Jobs and cron jobs.

use super::*;

fn job(more: Value) -> Value {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x"}]}});
    json!({"spec": with(json!({"template": template}), more)})
}

fn cron(more: Value) -> Value {
    json!({"spec": with(json!({"schedule": "* * * * *", "jobTemplate": job(json!({}))}), more)})
}

#[test]
fn counts() {
    let indexed = |more: Value| job(with(json!({"completionMode": "Indexed", "completions": 5}), more));
    table(
        "batch/v1",
        "Job",
        &[
            (job(json!({})), ""),
            (
                job(json!({"completionMode": "X"})),
                "spec.completionMode: Unsupported value: \"X\": supported values: \"NonIndexed\", \"Indexed\"",
            ),
            (indexed(json!({"backoffLimitPerIndex": 1})), ""),
            (
                job(json!({"backoffLimitPerIndex": 1})),
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
            ),
            (
                indexed(json!({"maxFailedIndexes": 1})),
                "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
            ),
            (
                indexed(json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 6})),
                "spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions",
            ),
            (
                indexed(json!({"parallelism": 100001})),
                "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
            ),
            (
                with(indexed(json!({})), json!({"metadata": {"name": "a.b"}})),
                "metadata.name: Invalid value: \"a.b\": will not able to create pod with invalid DNS label: a.b-4",
            ),
            (
                job(json!({"managedBy": "x"})),
                "spec.managedBy: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
            (job(json!({"managedBy": "acme.io/foo"})), ""),
            (
                job(json!({"podReplacementPolicy": "X"})),
                "spec.podReplacementPolicy: Unsupported value: \"X\": supported values: \"Failed\", \"TerminatingOrFailed\"",
            ),
            (
                job(json!({"template": {"spec": {"restartPolicy": "X"}}})),
                "spec.template.spec.restartPolicy: Unsupported value: \"X\": supported values: \"Always\", \"OnFailure\", \"Never\"\nspec.template.spec.restartPolicy: Unsupported value: \"X\": supported values: \"OnFailure\", \"Never\"",
            ),
            (job(json!({"manualSelector": true})), "spec.selector: Required value"),
        ],
    );
}

#[test]
fn failure_policies() {
    let rule = |rule: Value| job(json!({"podFailurePolicy": {"rules": [rule]}}));
    let codes = |more: Value| {
        rule(json!({"action": "FailJob", "onExitCodes": with(json!({"operator": "In", "values": [1]}), more)}))
    };
    let at = "spec.podFailurePolicy.rules[0]";
    table(
        "batch/v1",
        "Job",
        &[
            (codes(json!({})), ""),
            (
                codes(json!({"values": [0]})),
                &format!("{at}.onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator"),
            ),
            (
                codes(json!({"values": []})),
                &format!("{at}.onExitCodes.values: Invalid value: []: at least one value is required"),
            ),
            (
                codes(json!({"values": [2, 1, 1]})),
                &format!(
                    "{at}.onExitCodes.values[2]: Duplicate value: 1\n{at}.onExitCodes.values: Invalid value: [2,1,1]: must be ordered"
                ),
            ),
            (
                codes(json!({"operator": "X"})),
                &format!("{at}.onExitCodes.operator: Unsupported value: \"X\": supported values: \"In\", \"NotIn\""),
            ),
            (
                codes(json!({"containerName": "b"})),
                &format!(
                    "{at}.onExitCodes.containerName: Invalid value: \"b\": must be one of the container or initContainer names in the pod template"
                ),
            ),
            (rule(json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]})), ""),
            (
                rule(json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "X"}]})),
                &format!(
                    "{at}.onPodConditions[0].status: Unsupported value: \"X\": supported values: \"False\", \"True\", \"Unknown\""
                ),
            ),
            (
                rule(json!({"action": "Ignore"})),
                &format!("{at}: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"),
            ),
            (
                rule(json!({"onPodConditions": [{"type": "A"}]})),
                &format!("{at}.action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]"),
            ),
            (
                rule(json!({"action": "FailIndex", "onPodConditions": [{"type": "A"}]})),
                &format!("{at}.action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set"),
            ),
            (
                with(codes(json!({})), json!({"spec": {"template": {"spec": {"restartPolicy": "OnFailure"}}}})),
                "spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy is specified",
            ),
            (
                with(codes(json!({})), json!({"spec": {"podReplacementPolicy": "TerminatingOrFailed"}})),
                "spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\"",
            ),
        ],
    );
}

#[test]
fn success_policies() {
    let rule =
        |rule: Value| job(json!({"completionMode": "Indexed", "completions": 5, "successPolicy": {"rules": [rule]}}));
    let at = "spec.successPolicy.rules[0]";
    let indexes = |text: &str, why: &str| {
        (
            rule(json!({"succeededIndexes": text})),
            format!("{at}.succeededIndexes: Invalid value: {text:?}: error parsing succeededIndexes: {why}"),
        )
    };
    table(
        "batch/v1",
        "Job",
        &[
            (rule(json!({"succeededIndexes": "0,2-4", "succeededCount": 4})), ""),
            (
                rule(json!({})),
                &format!("{at}: Required value: at least one of succeededCount or succeededIndexes must be specified"),
            ),
            (
                rule(json!({"succeededCount": 6})),
                &format!(
                    "{at}.succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)"
                ),
            ),
            (
                rule(json!({"succeededIndexes": "0-1", "succeededCount": 3})),
                &format!(
                    "{at}.succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)"
                ),
            ),
            (
                job(json!({"successPolicy": {"rules": []}})),
                "spec.successPolicy: Invalid value: {\"Rules\":[]}: requires indexed completion mode",
            ),
        ],
    );
    let rows = [
        indexes("5", "too large index: \"5\""),
        indexes("x", "cannot convert string to integer for index: \"x\""),
        indexes("2,1", "non-increasing order, previous: 2, current: 1"),
        indexes("3-2", "non-increasing order, previous: 3, current: 2"),
        indexes(
            "1-2-3",
            "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
        ),
    ];
    for (object, expected) in &rows {
        table("batch/v1", "Job", &[(object.clone(), expected)]);
    }
}

#[test]
fn schedules() {
    let schedule = |text: &str, why: &str| {
        let said =
            if why.is_empty() { String::new() } else { format!("spec.schedule: Invalid value: {text:?}: {why}") };
        table("batch/v1", "CronJob", &[(cron(json!({"schedule": text})), &said)]);
    };
    for right in ["*/5 * * * *", "0 0 1 jan-MAR sun", "@daily", "@every 1h30m", "0-10/2,30 ? * * 1-5", "5/15 0 * * 6"] {
        schedule(right, "");
    }
    schedule("* * * * 7", "end of range (7) above maximum (6): 7");
    schedule("60 * * * *", "end of range (60) above maximum (59): 60");
    schedule("* * 0 * *", "beginning of range (0) below minimum (1): 0");
    schedule("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1");
    schedule("*/0 * * * *", "step of range should be a positive number: */0");
    schedule("1-2-3 * * * *", "too many hyphens: 1-2-3");
    schedule("1/2/3 * * * *", "too many slashes: 1/2/3");
    schedule("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax");
    schedule("jan * * * *", "failed to parse int from jan: strconv.Atoi: parsing \"jan\": invalid syntax");
    schedule("@noon", "unrecognized descriptor: @noon");
    schedule("@every x", "failed to parse duration @every x: time: invalid duration \"x\"");
    schedule("@every 5", "failed to parse duration @every 5: time: missing unit in duration \"5\"");
    schedule("TZ=UTC * * * * *", "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
}

#[test]
fn zones_and_the_rest() {
    let zone = |name: &str| cron(json!({"timeZone": name}));
    table(
        "batch/v1",
        "CronJob",
        &[
            (zone("Europe/Berlin"), ""),
            (zone("UTC"), ""),
            (zone("Etc/GMT+1"), ""),
            (zone(""), "spec.timeZone: Invalid value: \"\": timeZone must be nil or non-empty string"),
            (zone("Mars/Olympus"), "spec.timeZone: Invalid value: \"Mars/Olympus\": unknown time zone Mars/Olympus"),
            (
                zone("Local"),
                "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            ),
            (zone("../etc"), "spec.timeZone: Invalid value: \"../etc\": unknown time zone ../etc"),
            (
                cron(json!({"concurrencyPolicy": "X"})),
                "spec.concurrencyPolicy: Unsupported value: \"X\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ),
            (
                cron(json!({"jobTemplate": {"spec": {"manualSelector": true}}})),
                "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
            ),
            (
                cron(json!({"jobTemplate": {"spec": {"selector": {}}}})),
                "spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated",
            ),
            (
                with(cron(json!({})), json!({"metadata": {"name": "a".repeat(53)}})),
                &format!("metadata.name: Invalid value: {:?}: must be no more than 52 characters", "a".repeat(53)),
            ),
        ],
    );
}

#[test]
fn generated_selectors() {
    let mut object = job(json!({}));
    meta::set(&mut object, "name", "j");
    meta::set(&mut object, "uid", "u");
    default::generate_job_selector(&mut object);
    table("batch/v1", "Job", &[(object.clone(), "")]);
    object["spec"]["selector"] = json!({"matchLabels": {"job-name": "k"}});
    table(
        "batch/v1",
        "Job",
        &[(
            object,
            "spec.template.metadata.labels: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u\",\"batch.kubernetes.io/job-name\":\"j\",\"controller-uid\":\"u\",\"job-name\":\"j\"}: `selector` does not match template `labels`\nspec.selector: Invalid value: {\"matchLabels\":{\"job-name\":\"k\"}}: `selector` not auto-generated",
        )],
    );
}
