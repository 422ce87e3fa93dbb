//! One family of metrics, as Prometheus has them.

use crate::pool::stats::{BUCKETS, Histogram};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as HistogramProto, LabelPair, Metric, MetricFamily, MetricType,
};

type Labels<'a> = &'a [(&'static str, &'a str)];

/// Values that share a name and differ in their labels.
pub(super) struct Family {
    proto: MetricFamily,
    metrics: Vec<Metric>,
    kind: MetricType,
}

impl Family {
    fn new(name: &str, help: &str, kind: MetricType) -> Self {
        let mut proto = MetricFamily::default();
        proto.set_name(name.to_owned());
        proto.set_help(help.to_owned());
        proto.set_field_type(kind);
        Self { proto, metrics: Vec::new(), kind }
    }

    pub(super) fn counter(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::COUNTER)
    }

    pub(super) fn gauge(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::GAUGE)
    }

    pub(super) fn histogram(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::HISTOGRAM)
    }

    pub(super) fn add(&mut self, labels: Labels<'_>, value: f64) {
        let mut metric = Metric::from_label(pairs(labels));
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.metrics.push(metric);
    }

    pub(super) fn add_histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        let reading = histogram.read();
        let buckets = BUCKETS.iter().zip(reading.cumulative).map(|(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut proto = HistogramProto::default();
        proto.set_bucket(buckets.collect());
        proto.set_sample_count(reading.count);
        proto.set_sample_sum(reading.sum);
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_histogram(proto);
        self.metrics.push(metric);
    }

    pub(super) fn finish(mut self) -> Option<MetricFamily> {
        // The encoder refuses families without metrics.
        (!self.metrics.is_empty()).then(|| {
            self.proto.set_metric(self.metrics);
            self.proto
        })
    }
}

fn pairs(labels: Labels<'_>) -> Vec<LabelPair> {
    labels
        .iter()
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        })
        .collect()
}
