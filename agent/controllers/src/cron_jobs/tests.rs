//! When schedules are due, what a plan does then, and a CronJob over a real API.

use std::time::Duration;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};
use skiff_object::schedules::Schedule;
use skiff_reconcile::Wake;

use super::schedule::{COUNTED_MAX, Due, due, next};
use super::*;
use crate::testing::World;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).expect("a time zone")
}

fn parse(text: &str) -> Schedule {
    Schedule::parse(text).expect("a schedule")
}

/// The times after a given one, as the wall shows them.
fn check_next(schedule: &str, name: &str, after: &str, expected: &[&str]) {
    let (schedule, zone) = (parse(schedule), zone(name));
    let mut times = Vec::new();
    let mut last = at(after);
    for _ in expected {
        last = next(&schedule, last, &zone).expect("a time");
        times.push(last.display_with_offset(zone.to_offset(last)).to_string());
    }
    assert_eq!(times, expected, "after {after}");
}

#[test]
fn a_schedule_is_due_when_the_wall_shows_it() {
    check_next(
        "*/15 * * * *",
        "UTC",
        "2026-03-01T10:07:30Z",
        &["2026-03-01T10:15:00+00:00", "2026-03-01T10:30:00+00:00"],
    );
    check_next("0 0 * * *", "UTC", "2026-12-31T00:00:00Z", &["2027-01-01T00:00:00+00:00"]);
    check_next(
        "30 4 1,15 * 5",
        "UTC",
        "2026-05-01T04:30:00Z",
        &["2026-05-08T04:30:00+00:00", "2026-05-15T04:30:00+00:00"],
    );
    check_next("0 12 29 2 *", "UTC", "2026-01-01T00:00:00Z", &["2028-02-29T12:00:00+00:00"]);
    check_next("0 9 * * mon", "Asia/Tokyo", "2026-01-01T00:00:00Z", &["2026-01-05T09:00:00+09:00"]);
    check_next(
        "@every 90s",
        "UTC",
        "2026-01-01T00:00:00.5Z",
        &["2026-01-01T00:01:30+00:00", "2026-01-01T00:03:00+00:00"],
    );
}

#[test]
fn a_time_that_the_clock_leaves_out_is_left_out_and_one_it_repeats_is_repeated() {
    let (spring, autumn) = ("2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z");
    check_next("30 2 * * *", "Europe/Zurich", spring, &["2026-03-30T02:30:00+02:00"]);
    check_next("0 * * * *", "Europe/Zurich", "2026-03-29T00:00:00Z", &["2026-03-29T03:00:00+02:00"]);
    check_next(
        "30 2 * * *",
        "Europe/Zurich",
        autumn,
        &["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00"],
    );
    check_next("0 3 * * *", "Europe/Zurich", autumn, &["2026-10-25T03:00:00+01:00", "2026-10-26T03:00:00+01:00"]);
    // Half an hour; and at midnight.
    check_next(
        "45 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-04T00:00:00Z",
        &["2026-04-05T01:45:00+11:00", "2026-04-05T01:45:00+10:30", "2026-04-06T01:45:00+10:30"],
    );
    check_next("0 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", &["2026-09-07T00:00:00-03:00"]);
}

#[test]
fn each_zone_that_the_api_takes_is_known() {
    let names = include_str!("../../../object/src/validate/jobs/zones.txt").lines();
    let unknown: Vec<_> = names.filter(|name| TimeZone::get(name).is_err()).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn a_day_that_never_comes_is_not_waited_for() {
    assert_eq!(next(&parse("0 0 30 2 *"), at("2026-01-01T00:00:00Z"), &TimeZone::UTC), None);
    assert_eq!(next(&parse(", * * * *"), at("2026-01-01T00:00:00Z"), &TimeZone::UTC), None);
    assert_eq!(next(&parse("* * * * *"), Timestamp::MAX, &TimeZone::UTC), None);
    assert!(next(&parse("* * * * *"), Timestamp::MIN, &TimeZone::UTC).is_some());
}

#[test]
fn what_was_missed_is_counted_up_to_a_number() {
    let check = |schedule: &str, since: &str, now: &str, expected: Option<(&str, usize)>| {
        let found = due(&parse(schedule), at(since), at(now), &TimeZone::UTC);
        assert_eq!(found, expected.map(|(last, count)| Due { last: at(last), count }), "{schedule}");
    };
    check("0 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:59:59Z", None);
    check("0 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", Some(("2026-01-01T01:00:00Z", 1)));
    check("0 * * * *", "2026-01-01T00:00:00Z", "2026-01-05T04:30:00Z", Some(("2026-01-05T04:00:00Z", 100)));
    let many = COUNTED_MAX + 1;
    check("0 * * * *", "2016-01-01T00:00:00Z", "2026-01-05T04:30:00Z", Some(("2026-01-05T04:00:00Z", many)));
    check("* 3 1 1 *", "2016-01-01T00:00:00Z", "2026-06-05T04:30:00Z", Some(("2026-01-01T03:59:00Z", many)));
    check("@every 7s", "2026-01-01T00:00:00Z", "2026-01-01T12:00:00Z", Some(("2026-01-01T11:59:57Z", many)));
}

fn field() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["*", "*/7", "0", "5-20/3", "3,4"])
}

proptest! {
    #[test]
    fn the_next_time_is_later_matches_and_leaves_none_out(
        minute in field(), hour in field(), day in prop::sample::select(vec!["*", "1", "28-31", "*/2"]),
        weekday in prop::sample::select(vec!["*", "0", "1-5"]), start in 1_500_000_000_i64..2_000_000_000,
        name in prop::sample::select(vec!["UTC", "Europe/Zurich", "America/St_Johns", "Australia/Lord_Howe"]),
    ) {
        let schedule = parse(&format!("{minute} {hour} {day} * {weekday}"));
        let (zone, start) = (zone(name), Timestamp::from_second(start).expect("a time"));
        let Schedule::Calendar(calendar) = &schedule else { panic!("it is a calendar") };
        let shows = |at: Timestamp| {
            let local = zone.to_datetime(at);
            let weekday = local.weekday().to_sunday_zero_offset();
            calendar.has_day(local.month(), local.day(), weekday)
                && calendar.has_hour(local.hour())
                && calendar.has_minute(local.minute())
        };
        let found = next(&schedule, start, &zone).expect("it comes");
        prop_assert!(found > start && shows(found) && found.as_second() % 60 == 0);
        let minutes = start.as_second().div_euclid(60) + 1..found.as_second() / 60;
        for minute in minutes.rev().take(3000) {
            prop_assert!(!shows(Timestamp::from_second(minute * 60).expect("a time")));
        }
    }

    #[test]
    fn the_last_time_is_the_last(hours in 1_i64..5000, minute in field(), hour in field()) {
        let schedule = parse(&format!("{minute} {hour} * * *"));
        let (since, zone) = (at("2026-01-01T00:00:00Z"), zone("Europe/Zurich"));
        let now = since + jiff::SignedDuration::from_hours(hours);
        let times = std::iter::successors(next(&schedule, since, &zone), |at| next(&schedule, *at, &zone));
        let times: Vec<_> = times.take_while(|at| *at <= now).collect();
        let found = due(&schedule, since, now, &zone);
        prop_assert_eq!(found.map(|due| due.last), times.last().copied());
        prop_assert_eq!(found.map_or(0, |due| due.count), times.len().min(COUNTED_MAX + 1));
    }

    #[test]
    fn nonsense_is_answered(schedule in ".{0,20}", zone in ".{0,12}", deadline in any::<i64>(), seconds in any::<i32>()) {
        let cron = cron(json!({"schedule": schedule, "timeZone": zone, "startingDeadlineSeconds": deadline}), Value::Null);
        plan_of(&cron, &[], Timestamp::from_second(i64::from(seconds)).expect("a time"));
    }
}

const NOW: &str = "2026-01-01T12:00:10Z";

fn cron(more: Value, status: Value) -> CronJob {
    let mut cron = json!({
        "metadata": {"name": "tidy", "namespace": "default", "uid": "cron", "creationTimestamp": "2026-01-01T11:30:00Z"},
        "spec": {"schedule": "0 * * * *", "concurrencyPolicy": "Allow", "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 1, "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {
                "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a"}]}}}}},
        "status": status,
    });
    for (key, value) in more.as_object().expect("fields") {
        cron["spec"][key] = value.clone();
    }
    serde_json::from_value(cron).expect("a CronJob")
}

/// A run that was due at an hour of the day.
fn run(hour: i64, condition: Option<&str>) -> Arc<Job> {
    let due = at("2026-01-01T00:00:00Z") + jiff::SignedDuration::from_hours(hour);
    let name = format!("tidy-{}", due.as_second() / 60);
    let conditions: Vec<_> = condition.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
    let completion = (condition == Some("Complete")).then(|| due.to_string());
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "uid": format!("run-{hour}"),
                "annotations": {"batch.kubernetes.io/cronjob-scheduled-timestamp": due.to_string()}},
            "status": {"conditions": conditions, "startTime": due.to_string(), "completionTime": completion},
        }))
        .expect("a Job"),
    )
}

fn active(hours: &[i64]) -> Value {
    let reference = |hour: &i64| json!({"name": run(*hour, None).name_any(), "uid": format!("run-{hour}")});
    json!({"active": hours.iter().map(reference).collect::<Vec<_>>(),
        "lastScheduleTime": hours.last().map(|hour| format!("2026-01-01T{hour:02}:00:00Z"))})
}

fn plan_of(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    plan(&Observed { cron, jobs, is_unseen: &|uid| uid == "run-unseen", zone: &TimeZone::UTC }, now)
}

fn told(plan: &Plan) -> String {
    let mut lines = Vec::new();
    if let Some(start) = &plan.start {
        let replaced: Vec<_> = start.replace.iter().filter_map(|job| job.uid.clone()).collect();
        lines.push(format!("start {} in place of {replaced:?}", start.job.name_any()));
    }
    let status = &plan.status;
    let uids: Vec<_> = status.active.iter().flatten().filter_map(|job| job.uid.clone()).collect();
    let time = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        time.as_ref().map_or("never".to_owned(), |time| time.0.to_string())
    };
    let (last, success) = (time(&status.last_schedule_time), time(&status.last_successful_time));
    lines.push(format!("active {uids:?}, last {last}, success {success}"));
    lines.extend(plan.delete.iter().map(|job| format!("delete {}", job.uid().unwrap_or_default())));
    for news in plan.news.iter().chain(&plan.complaints) {
        lines.push(format!("{:?} {}: {}", news.kind, news.reason, news.message));
    }
    if let Next::After(left) = plan.next {
        lines.push(format!("next {left:?}"));
    }
    lines.join("\n") + "\n"
}

fn check(cron: &CronJob, jobs: &[Arc<Job>], expected: Expect) {
    expected.assert_eq(&told(&plan_of(cron, jobs, at(NOW))));
}

#[test]
fn a_run_starts_when_it_is_due() {
    check(
        &cron(json!({}), json!(null)),
        &[],
        expect![[r#"
        start tidy-29454480 in place of []
        active [], last never, success never
        next 600s
    "#]],
    );
    check(
        &cron(json!({}), active(&[12])),
        &[run(12, None)],
        expect![[r#"
        active ["run-12"], last 2026-01-01T12:00:00Z, success never
        next 600s
    "#]],
    );
    check(
        &cron(json!({"schedule": "15 * * * *"}), active(&[12])),
        &[run(12, None)],
        expect![[r#"
        active ["run-12"], last 2026-01-01T12:00:00Z, success never
        next 600s
    "#]],
    );
    check(
        &cron(json!({"suspend": true}), json!(null)),
        &[],
        expect![[r#"
        active [], last never, success never
    "#]],
    );
    check(
        &cron(json!({"startingDeadlineSeconds": 5}), json!(null)),
        &[],
        expect![[r#"
        active [], last never, success never
        Warning MissSchedule: Missed scheduled time to start a job: Thu, 01 Jan 2026 12:00:00 +0000
        next 600s
    "#]],
    );
    check(
        &cron(json!({"startingDeadlineSeconds": 10}), json!(null)),
        &[],
        expect![[r#"
        start tidy-29454480 in place of []
        active [], last never, success never
        next 600s
    "#]],
    );
    check(
        &cron(json!({}), json!({"lastScheduleTime": "2025-01-01T00:00:00Z"})),
        &[],
        expect![[r#"
        start tidy-29454480 in place of []
        active [], last 2025-01-01T00:00:00Z, success never
        Warning TooManyMissedTimes: too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew
        next 600s
    "#]],
    );
    // What a clock said that was wrong holds up nothing.
    check(
        &cron(json!({}), json!({"lastScheduleTime": "2031-01-01T00:00:00Z"})),
        &[],
        expect![[r#"
        start tidy-29454480 in place of []
        active [], last never, success never
        next 600s
    "#]],
    );
}

#[test]
fn a_run_that_was_started_is_known_by_its_name() {
    check(
        &cron(json!({}), json!(null)),
        &[run(12, None)],
        expect![[r#"
        active ["run-12"], last 2026-01-01T12:00:00Z, success never
        next 600s
    "#]],
    );
    check(
        &cron(json!({}), json!(null)),
        &[run(12, Some("Failed"))],
        expect![[r#"
        active [], last 2026-01-01T12:00:00Z, success never
        next 600s
    "#]],
    );
}

#[test]
fn runs_that_overlap() {
    check(
        &cron(json!({"concurrencyPolicy": "Allow"}), active(&[11])),
        &[run(11, None)],
        expect![[r#"
        start tidy-29454480 in place of []
        active ["run-11"], last 2026-01-01T11:00:00Z, success never
        next 600s
    "#]],
    );
    check(
        &cron(json!({"concurrencyPolicy": "Forbid"}), active(&[11])),
        &[run(11, None)],
        expect![[r#"
        active ["run-11"], last 2026-01-01T11:00:00Z, success never
        Normal JobAlreadyActive: Not starting job because prior execution is running and concurrency policy is Forbid
        next 600s
    "#]],
    );
    check(
        &cron(json!({"concurrencyPolicy": "Forbid"}), active(&[11])),
        &[run(11, Some("Complete"))],
        expect![[r#"
        start tidy-29454480 in place of []
        active [], last 2026-01-01T11:00:00Z, success 2026-01-01T11:00:00Z
        Normal SawCompletedJob: Saw completed job: tidy-29454420, condition: Complete
        next 600s
    "#]],
    );
    check(
        &cron(json!({"concurrencyPolicy": "Replace"}), active(&[11])),
        &[run(11, None)],
        expect![[r#"
        start tidy-29454480 in place of ["run-11"]
        active ["run-11"], last 2026-01-01T11:00:00Z, success never
        next 600s
    "#]],
    );
}

#[test]
fn what_ended_is_kept_as_long_as_asked_for() {
    let jobs = [run(8, Some("Complete")), run(9, Some("Failed")), run(10, Some("Complete")), run(12, Some("Failed"))];
    check(
        &cron(json!({}), active(&[12])),
        &jobs,
        expect![[r#"
        active [], last 2026-01-01T12:00:00Z, success 2026-01-01T10:00:00Z
        delete run-8
        delete run-9
        Normal SawCompletedJob: Saw completed job: tidy-29454480, condition: Failed
        next 600s
    "#]],
    );
}

#[test]
fn what_is_odd_is_said() {
    let mut by_hand = (*run(7, None)).clone();
    by_hand.metadata.name = Some("by-hand".to_owned());
    check(
        &cron(json!({}), active(&[11, 12])),
        &[run(12, None), Arc::new(by_hand)],
        expect![[r#"
        active ["run-12"], last 2026-01-01T12:00:00Z, success never
        Normal MissingJob: Active job went missing: tidy-29454420
        Warning UnexpectedJob: Saw a job that the controller did not create or forgot: by-hand
        next 600s
    "#]],
    );
    check(
        &cron(json!({"timeZone": "Moon/Base"}), json!(null)),
        &[],
        expect![[r#"
        active [], last never, success never
        Warning UnknownTimeZone: invalid timeZone: "Moon/Base": failed to find time zone `Moon/Base` in time zone database
    "#]],
    );
    check(
        &cron(json!({"schedule": "TZ=UTC 0 * * * *"}), json!(null)),
        &[],
        expect![[r#"
        active [], last never, success never
        Warning UnparseableSchedule: unparseable schedule: "TZ=UTC 0 * * * *" : expected exactly 5 fields, found 6: [TZ=UTC 0 * * * *]
    "#]],
    );
    let mut unseen = active(&[12]);
    unseen["active"][0]["uid"] = json!("run-unseen");
    check(
        &cron(json!({}), unseen),
        &[],
        expect![[r#"
        active ["run-unseen"], last 2026-01-01T12:00:00Z, success never
        next 600s
    "#]],
    );
}

#[test]
fn the_job_says_when_it_was_due_where_it_was() {
    let cron = cron(json!({"timeZone": "Europe/Zurich", "schedule": "0 13 * * *"}), json!(null));
    let start = plan_of(&cron, &[], at(NOW)).start.expect("it is due");
    let job = serde_json::to_value(&start.job.metadata).expect("JSON");
    assert_eq!(
        job["annotations"],
        json!({"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T13:00:00+01:00"})
    );
    assert_eq!((&job["name"], &job["labels"]), (&json!("tidy-29454480"), &json!({"a": "b"})));
    assert_eq!(job["ownerReferences"][0]["kind"], "CronJob");
}

const CRON_JOBS: &str = "/apis/batch/v1/namespaces/default/cronjobs";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";

async fn post(world: &World, name: &str, schedule: &str) -> String {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}});
    let spec = json!({"schedule": schedule, "jobTemplate": {"spec": {"template": template}}});
    world.post(CRON_JOBS, json!({"metadata": {"name": name}, "spec": spec})).await;
    format!("{CRON_JOBS}/{name}")
}

fn controller(world: &World) -> Controller {
    let caches = Caches::new(world.client.clone(), world.shutdown.clone());
    let client = world.client_of("cronjob-controller");
    Controller::new(client.clone(), Recorder::new(client, "cronjob-controller", ""), &caches)
}

fn count(list: &Value) -> usize {
    list["items"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn a_cron_job_fires_and_sees_its_job_end() {
    let world = World::start().await;
    let path = post(&world, "tidy", "@every 1s").await;
    let controller = controller(&world);
    let wake = Wake::on(controller.wakes());
    world.drive(controller, wake);
    let jobs = world.until(JOBS, |list| count(list) > 0).await;
    let job = &jobs["items"][0];
    let name = job["metadata"]["name"].as_str().expect("a name");
    let started = world.until(&path, |cron| cron["status"]["lastScheduleTime"].is_string()).await;
    assert_eq!(started["status"]["active"][0]["uid"], job["metadata"]["uid"], "{started}");
    let time = job["metadata"]["creationTimestamp"].clone();
    let complete = json!({"status": {"startTime": time, "completionTime": time,
        "conditions": [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]}});
    world.merge(&format!("{JOBS}/{name}/status"), complete).await;
    world.until(&path, |cron| cron["status"]["lastSuccessfulTime"] == time).await;
    world
        .until("/api/v1/namespaces/default/events", |events| {
            let events = events["items"].as_array().cloned().unwrap_or_default();
            ["SuccessfulCreate", "SawCompletedJob"]
                .iter()
                .all(|reason| events.iter().any(|event| event["reason"] == *reason))
        })
        .await;
}

#[tokio::test]
async fn a_run_is_made_once_by_agents_that_know_nothing_of_each_other() {
    let world = World::start().await;
    let path = post(&world, "tidy", "@every 1h").await;
    let mut cron: CronJob = serde_json::from_value(world.get(&path).await).expect("a CronJob");
    let created = cron.creation_timestamp().expect("a time").0;
    cron.metadata.creation_timestamp = Some(objects::time(created - jiff::SignedDuration::from_secs(3601)));
    for _ in 0..3 {
        let mut fresh = controller(&world);
        (fresh.cron_jobs, fresh.jobs) = (Informer::fixed([cron.clone()]), Informer::fixed([]));
        let next = fresh.reconcile().await.expect("no failure");
        assert!(matches!(next, Next::After(left) if left <= Duration::from_secs(600)), "{next:?}");
    }
    assert_eq!(count(&world.get(JOBS).await), 1);
    let status = world.get(&path).await["status"].clone();
    assert_eq!(status["active"].as_array().map(Vec::len), Some(1), "{status}");
}

#[tokio::test]
async fn a_run_takes_the_place_of_the_one_before() {
    let world = World::start().await;
    let path = post(&world, "tidy", "@every 1h").await;
    world.merge(&path, json!({"spec": {"concurrencyPolicy": "Replace"}})).await;
    let cron: CronJob = serde_json::from_value(world.get(&path).await).expect("a CronJob");
    let due = cron.creation_timestamp().expect("a time").0 - jiff::SignedDuration::from_hours(2);
    let name = format!("tidy-{}", due.as_second() / 60);
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}});
    let old = json!({"metadata": {"name": name, "ownerReferences": [owners::controller_reference(&cron)],
        "annotations": {"batch.kubernetes.io/cronjob-scheduled-timestamp": due.to_string()}},
        "spec": {"template": template}});
    let old: Job = serde_json::from_value(world.post(JOBS, old).await).expect("a Job");
    let mut late = controller(&world);
    (late.cron_jobs, late.jobs) = (Informer::fixed([cron]), Informer::fixed([old]));
    for _ in 0..2 {
        late.reconcile().await.expect("no failure");
        let jobs = world.get(JOBS).await;
        assert_eq!(count(&jobs), 1, "{jobs}");
        assert_ne!(jobs["items"][0]["metadata"]["name"], json!(name));
        let status = world.get(&path).await["status"].clone();
        assert_eq!(status["active"].as_array().map(Vec::len), Some(1), "{status}");
        assert_eq!(status["active"][0]["uid"], jobs["items"][0]["metadata"]["uid"], "{status}");
    }
}
