//! A line of the log as one JSON object: `timestamp`, `level`, what was said, and its fields beside it.

use jiff::Timestamp;
use serde_json::{Map, Value};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The field that holds JSON already: what an event of the gateway tells besides its sentence.
pub(in crate::telemetry) const DATA: &str = "data";

/// See the module's text.
pub(super) struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut object = Object::default();
        object.add("timestamp", Timestamp::now().to_string());
        object.add("level", event.metadata().level().as_str());
        event.record(&mut object);
        object.add("target", event.metadata().target());
        writeln!(writer, "{}", Value::Object(object.0))
    }
}

#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn add(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Object {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match serde_json::from_str::<Value>(&text) {
            Ok(value) if field.name() == DATA => self.add(DATA, value),
            _ => self.add(field.name(), text),
        }
    }
}
