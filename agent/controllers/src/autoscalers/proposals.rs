//! What one metric of an autoscaler offers, and how it is said. Pure.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, MetricIdentifier, MetricSpec, MetricStatus, MetricTarget,
    MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use skiff_object::quantity::{Format, Quantity};

use super::metrics::{Reading, Samples};
use super::replicas::{self, Basis, Proposal};
use crate::events::Said;
use crate::objects;

/// A number of replicas, and which metric asks for it.
#[derive(Clone, Debug)]
pub struct Offer {
    pub proposal: Proposal,
    pub name: String,
    status: MetricStatus,
}

impl Offer {
    pub fn status(&self) -> MetricStatus {
        self.status.clone()
    }
}

/// Why a metric offers nothing.
#[derive(Clone, Debug)]
pub struct Refused {
    pub reason: &'static str,
    /// As conditions have it.
    pub why: String,
    /// The same among others.
    pub error: String,
}

impl Refused {
    pub fn said(&self) -> Said {
        Said::warning(self.reason, self.why.clone())
    }

    fn new(reason: &'static str, why: String, what: String) -> Self {
        Self { reason, error: format!("{what}: {why}"), why }
    }
}

/// Of its spec and what was read.
pub fn offer(spec: &MetricSpec, reading: Result<Reading, String>, basis: Basis<'_>) -> Result<Offer, Refused> {
    let ty = || MetricStatus { type_: spec.type_.clone(), ..MetricStatus::default() };
    if let Some(source) = &spec.resource {
        let offered = of_resource(&source.name, None, &source.target, reading, basis);
        let failed = |why| {
            Refused::new("FailedGetResourceMetric", why, format!("failed to get {} resource metric value", source.name))
        };
        let (proposal, current, name) = offered.map_err(failed)?;
        let resource = Some(ResourceMetricStatus { name: source.name.clone(), current });
        return Ok(Offer { proposal, name, status: MetricStatus { resource, ..ty() } });
    }
    if let Some(source) = &spec.container_resource {
        let container = source.container.clone();
        let offered = of_resource(&source.name, Some(&container), &source.target, reading, basis);
        let failed = |why| {
            let what = format!("failed to get {} container metric value", source.container);
            Refused::new("FailedGetContainerResourceMetric", why, what)
        };
        let (proposal, current, name) = offered.map_err(failed)?;
        let status = ContainerResourceMetricStatus { container, name: source.name.clone(), current };
        return Ok(Offer { proposal, name, status: MetricStatus { container_resource: Some(status), ..ty() } });
    }
    if let Some(source) = &spec.pods {
        let failed = |why| Refused::new("FailedGetPodsMetric", why, "failed to get pods metric value".to_owned());
        let proposal = of_pods(&source.target, reading, basis).map_err(failed)?;
        let status = PodsMetricStatus { metric: source.metric.clone(), current: average_of(proposal.usage) };
        let name = format!("pods metric {}", source.metric.name);
        return Ok(Offer { proposal, name, status: MetricStatus { pods: Some(status), ..ty() } });
    }
    if let Some(source) = &spec.object {
        let failed = |why| Refused::new("FailedGetObjectMetric", why, "failed to get object metric value".to_owned());
        let (proposal, current) = of_whole("object", &source.target, reading, basis).map_err(failed)?;
        let name = match current.average_value {
            Some(_) => external_name(&source.metric),
            None => format!("{} metric {}", source.described_object.kind, source.metric.name),
        };
        let described_object = source.described_object.clone();
        let status = ObjectMetricStatus { current, described_object, metric: source.metric.clone() };
        return Ok(Offer { proposal, name, status: MetricStatus { object: Some(status), ..ty() } });
    }
    if let Some(source) = &spec.external {
        let failed = |why| {
            let what = format!("failed to get {} external metric value", source.metric.name);
            Refused::new("FailedGetExternalMetric", why, what)
        };
        let (proposal, current) = of_whole("external", &source.target, reading, basis).map_err(failed)?;
        let status = ExternalMetricStatus { current, metric: source.metric.clone() };
        let name = external_name(&source.metric);
        return Ok(Offer { proposal, name, status: MetricStatus { external: Some(status), ..ty() } });
    }
    let why = format!("unknown metric source type {:?}", spec.type_);
    Err(Refused { reason: "InvalidMetricSourceType", error: why.clone(), why })
}

/// As upstream names also objects whose value is shared out.
fn external_name(metric: &MetricIdentifier) -> String {
    let selector = metric.selector.as_ref().map(|selector| objects::selector(selector).to_string());
    format!("external metric {}({})", metric.name, selector.unwrap_or_default())
}

fn samples(reading: Result<Reading, String>) -> Result<Samples, String> {
    match reading? {
        Reading::Pods(samples) => Ok(samples),
        Reading::Whole(_) => Err("it is not said of each pod".to_owned()),
    }
}

fn whole(reading: Result<Reading, String>) -> Result<i64, String> {
    match reading? {
        Reading::Whole(value) => Ok(value),
        Reading::Pods(_) => Err("it is said of each pod".to_owned()),
    }
}

fn milli(quantity: Option<&Text>) -> Option<i64> {
    // A target of nothing would divide by it.
    let parsed = Quantity::parse(&quantity?.0).ok()?;
    Some(parsed.milli_value()).filter(|milli| *milli > 0)
}

fn quantity(milli: i64, format: Format) -> Option<Text> {
    Some(Text(Quantity::from_milli(milli, format).to_string()))
}

fn average_of(usage: i64) -> MetricValueStatus {
    MetricValueStatus { average_value: quantity(usage, Format::DecimalSi), ..MetricValueStatus::default() }
}

fn of_resource(
    resource: &str,
    container: Option<&str>,
    target: &MetricTarget,
    reading: Result<Reading, String>,
    basis: Basis<'_>,
) -> Result<(Proposal, MetricValueStatus, String), String> {
    let format = if resource == "memory" { Format::BinarySi } else { Format::DecimalSi };
    if let Some(average) = milli(target.average_value.as_ref()) {
        let proposal =
            samples(reading).and_then(|samples| replicas::by_average(basis, Some(resource), samples, average));
        let proposal = proposal.map_err(|why| format!("failed to get {resource} usage: {why}"))?;
        let average_value = quantity(proposal.usage, format);
        let current = MetricValueStatus { average_value, ..MetricValueStatus::default() };
        return Ok((proposal, current, format!("{resource} resource")));
    }
    let Some(percent) = target.average_utilization.filter(|percent| *percent > 0) else {
        let why = "invalid resource metric source: neither an average utilization target nor an average value (usage) target \
                   was set";
        return Err(why.to_owned());
    };
    let proposal = samples(reading)
        .and_then(|samples| replicas::by_utilization(basis, resource, container, samples, percent))
        .map_err(|why| format!("failed to get {resource} utilization: {why}"))?;
    let current = MetricValueStatus {
        average_utilization: proposal.utilization,
        average_value: quantity(proposal.usage, format),
        value: None,
    };
    let of = if container.is_some() { "container resource" } else { "resource" };
    Ok((proposal, current, format!("{resource} {of} utilization (percentage of request)")))
}

fn of_pods(target: &MetricTarget, reading: Result<Reading, String>, basis: Basis<'_>) -> Result<Proposal, String> {
    let average = milli(target.average_value.as_ref());
    let average = average.ok_or("invalid pods metric source: no average value target was set")?;
    replicas::by_average(basis, None, samples(reading)?, average)
}

fn of_whole(
    source: &str,
    target: &MetricTarget,
    reading: Result<Reading, String>,
    basis: Basis<'_>,
) -> Result<(Proposal, MetricValueStatus), String> {
    let (value, average) = (milli(target.value.as_ref()), milli(target.average_value.as_ref()));
    match (average, value) {
        (Some(average), _) if target.type_ == "AverageValue" || value.is_none() => {
            let proposal = replicas::by_share(basis, whole(reading)?, average);
            Ok((proposal, average_of(proposal.usage)))
        }
        (_, Some(value)) => {
            let proposal = replicas::by_whole(basis, whole(reading)?, value)?;
            let value = quantity(proposal.usage, Format::DecimalSi);
            Ok((proposal, MetricValueStatus { value, ..MetricValueStatus::default() }))
        }
        (_, None) => {
            Err(format!("invalid {source} metric source: neither a value target nor an average value target was set"))
        }
    }
}
