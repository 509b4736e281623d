//! From the text of a configuration to a snapshot: what a reload costs before it is swapped in.

use criterion::{BenchmarkId, Criterion};
use std::fmt::Write;
use std::hint::black_box;
use tidegate::config::{self, Environment};
use tidegate::snapshot::{Parts, compile};
use tidegate::telemetry::access_log::AccessWriter;
use tidegate::telemetry::metrics::Metrics;
use tidegate::upstream::shared::names::Directory;
use tidegate::upstream::shared::{Overrides, Registry};

fn text(routes: usize) -> String {
    let mut text = String::from("[listeners.web]\naddress = \"127.0.0.1:8080\"\n");
    for i in 0..routes {
        let _ok = write!(
            text,
            "[[routes]]\nhosts = [\"h{}.example.com\"]\npaths = [\"/p{i}\"]\nupstream = \"u{}\"\n",
            i % 50,
            i % 20
        );
    }
    for i in 0..20.min(routes) {
        let _ok = write!(
            text,
            "[upstreams.u{i}]\nendpoints = [{{ address = \"127.0.0.1:{}\" }}]\n",
            9000 + i
        );
    }
    text
}

pub fn config_compile(c: &mut Criterion) {
    let environment = Environment::from_vars(std::iter::empty());
    let access = AccessWriter::start(Metrics::new().access_log.clone()).expect("the writer's thread starts");
    let registry = Registry::default();
    let directory = Directory::default();
    let mut group = c.benchmark_group("config_compile");
    for routes in [10, 100, 1000] {
        let text = text(routes);
        group.bench_with_input(BenchmarkId::new("load", routes), &text, |b, text| {
            b.iter(|| black_box(config::load_text("bench.toml", text, &environment).is_ok()));
        });
        let loaded =
            config::load_text("bench.toml", &text, &environment).expect("the configuration is valid");
        group.bench_with_input(
            BenchmarkId::new("compile", routes),
            &loaded.config,
            |b, config| {
                b.iter(|| {
                    black_box(
                        compile(
                            config,
                            1,
                            Parts {
                                registry: &registry,
                                access: &access,
                                directory: &directory,
                                overrides: &Overrides::default(),
                                tickets: &std::sync::Arc::default(),
                                acme: &tidegate::tls::acme::Acme::default(),
                            },
                        )
                        .is_ok(),
                    )
                });
            },
        );
    }
    group.finish();
}
