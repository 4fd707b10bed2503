//! Pages as large and as varied as those that real targets serve.

use std::fmt::Write as _;

/// A page in the style of node_exporter and of a Go service: of ten series five are labelled gauges and
/// counters, four histogram buckets and one has no labels.
pub(crate) fn text_page(series: usize) -> String {
    let mut page = String::with_capacity(series * 110);
    let mut written = 0;
    let mut family = 0;
    while written < series {
        family += 1;
        let _ = writeln!(page, "# HELP app_family_{family}_total What family {family} counts.");
        let _ = writeln!(page, "# TYPE app_family_{family}_total counter");
        for instance in 0..50 {
            let value = instance * 1_234_567 + family;
            let _ = writeln!(
                page,
                "app_family_{family}_total{{device=\"/dev/nvme{instance}n1\",fstype=\"ext4\",mountpoint=\"/data/{instance}\",namespace=\"shop\"}} {value}"
            );
        }
        let _ = writeln!(page, "# HELP app_request_{family}_seconds Latency of family {family}.");
        let _ = writeln!(page, "# TYPE app_request_{family}_seconds histogram");
        for route in 0..4 {
            for (at, bound) in
                ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "+Inf"].iter().enumerate()
            {
                let _ = writeln!(
                    page,
                    "app_request_{family}_seconds_bucket{{code=\"200\",handler=\"/api/v1/route{route}\",method=\"GET\",le=\"{bound}\"}} {}",
                    (at + 1) * 1_000 + route
                );
            }
            let _ = writeln!(
                page,
                "app_request_{family}_seconds_sum{{code=\"200\",handler=\"/api/v1/route{route}\",method=\"GET\"}} {}.{:03}",
                family * 17,
                route * 31
            );
        }
        let _ = writeln!(page, "# TYPE app_load_{family} gauge");
        let _ = writeln!(page, "app_load_{family} 0.{family:02}");
        let _ = writeln!(page, "# TYPE app_bytes_{family} gauge");
        for instance in 0..9 {
            let _ =
                writeln!(page, "app_bytes_{family}{{device=\"eth{instance}\"}} {}.25e+09", family % 9 + 1);
        }
        written += 50 + 40 + 1 + 9;
    }
    page
}
