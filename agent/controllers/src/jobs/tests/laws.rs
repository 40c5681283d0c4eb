//! Whatever pods do, and wherever the agent dies between two writes: as many as asked for succeed, each index once, and
//! each end is counted once.

use proptest::prelude::*;

use super::super::pods::End;
use super::*;

/// A cluster without an API: what is written is there at once.
struct Simulation {
    job: Job,
    pods: Vec<Arc<Pod>>,
    now: Timestamp,
    made: usize,
    endings: Endings,
    /// How the pods ended that were let go, each once.
    ended: HashMap<String, End>,
}

#[derive(Clone, Debug)]
enum Event {
    /// A pass that dies before one of its writes, if it has so many.
    Pass {
        writes: usize,
    },
    End {
        pod: usize,
        phase: &'static str,
    },
    Delete {
        pod: usize,
    },
    Suspend {
        suspend: bool,
    },
    Wait {
        seconds: i64,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0_usize..8).prop_map(|writes| Event::Pass { writes }),
        3 => (any::<usize>(), prop::sample::select(vec!["Succeeded", "Failed"]))
            .prop_map(|(pod, phase)| Event::End { pod, phase }),
        1 => any::<usize>().prop_map(|pod| Event::Delete { pod }),
        1 => any::<bool>().prop_map(|suspend| Event::Suspend { suspend }),
        2 => (1_i64..400).prop_map(|seconds| Event::Wait { seconds }),
    ];
    prop::collection::vec(event, 0..60)
}

impl Simulation {
    fn new(job: Job) -> Self {
        let endings = Endings::default();
        Self { job, pods: Vec::new(), now: now(), made: 0, endings, ended: HashMap::new() }
    }

    fn change(&mut self, uid: &str, change: impl FnOnce(&mut Pod)) {
        if let Some(pod) = self.pods.iter_mut().find(|pod| pod.metadata.uid.as_deref() == Some(uid)) {
            change(Arc::make_mut(pod));
        }
        self.pods.retain(|pod| pod.metadata.deletion_timestamp.is_none() || is_tracked(pod));
    }

    fn make(&mut self, place: Option<Place>) {
        let mut pod = pods::pod(&self.job, place);
        self.made += 1;
        let name = format!("pod-{:04}", self.made);
        pod.metadata.creation_timestamp = Some(objects::time(self.now));
        (pod.metadata.name, pod.metadata.uid) = (Some(name.clone()), Some(name));
        // Of a pod that never ran, nobody waits for the end.
        let phase = if self.made.is_multiple_of(3) { "Pending" } else { "Running" };
        pod.status.get_or_insert_default().phase = Some(phase.to_owned());
        self.pods.push(Arc::new(pod));
    }

    /// Answers whether all was written.
    fn pass(&mut self, writes: usize) -> bool {
        let plan = plan_of(&self.job, &self.pods, 0, &self.endings, self.now);
        self.endings = plan.endings;
        let mut left = writes;
        let mut write = || left.checked_sub(1).map(|less| left = less).is_some();
        for place in plan.create {
            if !write() {
                return false;
            }
            self.make(place);
        }
        for removal in plan.remove {
            let (uid, at) = (removal.pod().uid().expect("a uid"), objects::time(self.now));
            if let Removal::Withdraw(_) = removal {
                if !write() {
                    return false;
                }
                self.change(&uid, |pod| pod.metadata.finalizers = None);
            }
            if !write() {
                return false;
            }
            self.change(&uid, |pod| pod.metadata.deletion_timestamp = Some(at));
        }
        if !write() {
            return false;
        }
        self.job.status = Some(plan.status);
        for pod in plan.let_go {
            if !write() {
                return false;
            }
            let end = if objects::phase(&pod) == "Succeeded" { End::Succeeded } else { End::Failed };
            let uid = pod.uid().expect("a uid");
            self.ended.entry(uid.clone()).or_insert(end);
            self.change(&uid, |pod| pod.metadata.finalizers = None);
        }
        true
    }

    fn active(&self) -> Vec<String> {
        self.pods.iter().filter(|pod| objects::is_active(pod)).filter_map(|pod| pod.uid()).collect()
    }

    fn apply(&mut self, event: &Event) {
        let active = self.active();
        let chosen = |pod: usize| active.get(pod % active.len().max(1)).cloned();
        match event {
            Event::Pass { writes } => {
                if !self.pass(*writes) {
                    self.endings = Endings::default();
                }
            }
            Event::End { pod, phase } => {
                let Some(uid) = chosen(*pod) else { return };
                self.change(&uid, |pod| pod.status.get_or_insert_default().phase = Some((*phase).to_owned()));
            }
            Event::Delete { pod } => {
                let Some(uid) = chosen(*pod) else { return };
                let at = objects::time(self.now);
                self.change(&uid, |pod| pod.metadata.deletion_timestamp = Some(at));
            }
            Event::Suspend { suspend } => {
                self.job.spec.as_mut().expect("a spec").suspend = Some(*suspend);
            }
            Event::Wait { seconds } => self.now += SignedDuration::from_secs(*seconds),
        }
    }

    /// What is always true.
    fn check(&self) -> Result<(), TestCaseError> {
        let spec = self.job.spec.as_ref().expect("a spec");
        let completions = spec.completions.unwrap_or(i32::MAX);
        let status = self.job.status.clone().unwrap_or_default();
        let ends = |end: End| self.ended.values().filter(|other| **other == end).count() as i32;
        prop_assert!(status.succeeded.unwrap_or(0) <= completions);
        if spec.completion_mode.as_deref() != Some("Indexed") {
            prop_assert!(status.succeeded.unwrap_or(0) <= ends(End::Succeeded));
        }
        prop_assert!(status.failed.unwrap_or(0) <= ends(End::Failed));
        prop_assert!(self.active().len() <= usize::try_from(spec.parallelism.unwrap_or(1)).expect("a number"));
        Ok(())
    }

    /// From now on nothing fails.
    fn settle(&mut self) {
        self.job.spec.as_mut().expect("a spec").suspend = Some(false);
        for _ in 0..200 {
            self.pass(usize::MAX);
            if plan::finished_at(&self.job).is_some() {
                return;
            }
            self.now += SignedDuration::from_secs(400);
            let going: Vec<_> = self.pods.iter().filter(|pod| !objects::is_terminal(pod)).cloned().collect();
            for pod in going {
                let phase = if objects::is_deleted(&*pod) { "Failed" } else { "Succeeded" };
                let uid = pod.uid().expect("a uid");
                self.change(&uid, |pod| pod.status.get_or_insert_default().phase = Some(phase.to_owned()));
            }
        }
        panic!("it never ends: {:?} {:?}", self.job.status, self.pods);
    }
}

fn run(job: &Job, events: &[Event]) -> Result<(), TestCaseError> {
    let mut simulation = Simulation::new(job.clone());
    for event in events {
        if plan::finished_at(&simulation.job).is_some() {
            break;
        }
        simulation.apply(event);
        simulation.check()?;
    }
    simulation.settle();
    let status = simulation.job.status.clone().unwrap_or_default();
    let spec = job.spec.as_ref().expect("a spec");
    let ends = |end: End| simulation.ended.values().filter(|other| **other == end).count() as i32;
    let kinds: Vec<_> = status.conditions.iter().flatten().map(|condition| condition.type_.as_str()).collect();
    if spec.backoff_limit_per_index.is_none() {
        prop_assert!(kinds.contains(&"Complete"), "{kinds:?}");
        prop_assert_eq!(status.succeeded.unwrap_or(0), spec.completions.unwrap_or(0));
    }
    prop_assert_eq!(status.failed.unwrap_or(0), ends(End::Failed));
    let end = spec.completions.unwrap_or(0);
    if spec.completion_mode.as_deref() == Some("Indexed") {
        let read = |text: Option<String>| indexes::Indexes::parse(text.as_deref().unwrap_or_default(), end);
        let (completed, failed) = (read(status.completed_indexes), read(status.failed_indexes));
        prop_assert_eq!(completed.count() + failed.count(), end);
        prop_assert_eq!(completed.count_common(&failed), 0);
    } else {
        prop_assert_eq!(status.succeeded.unwrap_or(0), ends(End::Succeeded));
    }
    prop_assert!(simulation.pods.iter().all(|pod| !is_tracked(pod)));
    Ok(())
}

proptest! {
    #[test]
    fn a_job_ends_with_its_number(events in events(), completions in 0_i32..6, parallelism in 1_i32..5) {
        let spec = json!({"completions": completions, "parallelism": parallelism, "backoffLimit": 1000});
        run(&job(&json!({"spec": spec, "status": null})), &events)?;
    }

    #[test]
    fn each_index_succeeds_once(events in events(), completions in 1_i32..6, parallelism in 1_i32..5) {
        let spec = json!({"completions": completions, "parallelism": parallelism, "backoffLimit": 1000});
        run(&indexed(&json!({"spec": spec, "status": null})), &events)?;
    }

    #[test]
    fn each_index_succeeds_or_fails(events in events(), completions in 1_i32..6, limit in 0_i32..3, failed in any::<bool>()) {
        let policy = if failed { "Failed" } else { "TerminatingOrFailed" };
        let spec = json!({"completions": completions, "parallelism": 3, "backoffLimitPerIndex": limit,
            "backoffLimit": i32::MAX, "podReplacementPolicy": policy});
        run(&indexed(&json!({"spec": spec, "status": null})), &events)?;
    }
}
