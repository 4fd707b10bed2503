//! The pages that Prometheus' own parsers have judged, made anew each time in the same way.

mod histogram_traps;
mod mutate;
mod mutate_protobuf;
#[cfg(feature = "openmetrics2")]
mod openmetrics2_traps;
mod protobuf_pages;
mod traps;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use histogram_traps::HISTOGRAM_TRAPS;
use mutate::{lines, mutate};
use mutate_protobuf::{messages, mutate_protobuf};
#[cfg(feature = "openmetrics2")]
use openmetrics2_traps::{OPENMETRICS2_PIECES, OPENMETRICS2_TRAPS};
use promferry_exposition::{Format, ParseOptions};
use promferry_model::{Rng, SeededRng};
use protobuf_pages::protobuf_pages;
use traps::{PIECES, TRAPS};

/// A page to judge.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) format: Format,
    pub(crate) options: ParseOptions,
    pub(crate) page: Vec<u8>,
    /// Whether a hash of the verdict is enough.
    pub(crate) digest: bool,
}

/// Mutations of one page, each of which can be made without those before it.
pub(crate) struct Mutations {
    pub(crate) name: String,
    pub(crate) format: Format,
    /// One set after the other is taken in turn.
    options: Vec<ParseOptions>,
    /// The page's lines, or messages.
    pieces: Vec<Vec<u8>>,
    pub(crate) number: usize,
}

impl Mutations {
    pub(crate) fn case(&self, number: usize) -> Case {
        let mut rng = SeededRng::new(seed_of(&self.name) ^ number as u64);
        let page = if self.format == Format::Protobuf {
            mutate_protobuf(&self.pieces, &mut rng)
        } else {
            mutate(&self.pieces, self.format, &mut rng)
        };
        Case {
            name: format!("{}/{number}", self.name),
            format: self.format,
            options: self.options[number % self.options.len()],
            page,
            digest: true,
        }
    }
}

/// What a page is judged for; each has its own verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Area {
    /// The formats as they are.
    Formats,
    /// Classic histograms as native ones.
    CustomBuckets,
    /// Type and unit as labels.
    TypeAndUnit,
    #[cfg(feature = "openmetrics2")]
    OpenMetrics2,
}

impl Area {
    pub(crate) const ALL: &[Self] = &[
        Self::Formats,
        Self::CustomBuckets,
        Self::TypeAndUnit,
        #[cfg(feature = "openmetrics2")]
        Self::OpenMetrics2,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Formats => "formats",
            Self::CustomBuckets => "custom_buckets",
            Self::TypeAndUnit => "type_and_unit",
            #[cfg(feature = "openmetrics2")]
            Self::OpenMetrics2 => "openmetrics2",
        }
    }

    /// Everything but the mutations.
    pub(crate) fn cases(self) -> Vec<Case> {
        let mut cases = Cases(Vec::new());
        match self {
            Self::Formats => cases.formats(),
            Self::CustomBuckets => cases.custom_buckets(),
            Self::TypeAndUnit => cases.type_and_unit(),
            #[cfg(feature = "openmetrics2")]
            Self::OpenMetrics2 => cases.openmetrics2(),
        }
        cases.0
    }

    pub(crate) fn mutations(self) -> Vec<Mutations> {
        let mut all = Vec::new();
        let mut add = |name: &str, format, options: Vec<ParseOptions>, page: Vec<u8>, number| {
            let name = format!("{}/{}/{name}", self.name(), tag(format));
            let pieces = if format == Format::Protobuf { messages(&page) } else { lines(&page) };
            all.push(Mutations { name, format, options, pieces, number });
        };
        match self {
            Self::Formats => {
                for (name, page) in files("pages", "prom") {
                    add(&name, Format::Text, sets(&["", ""]), page, 2000);
                }
                for (name, page) in files("pages", "om") {
                    add(&name, Format::OpenMetrics, sets(&["", "start"]), page, 2000);
                }
                let options =
                    ["", "native", "native classic", "start", "native start", "native classic start"];
                for (name, page) in every_protobuf_page() {
                    add(&name, Format::Protobuf, sets(&options), page, 1200);
                }
            }
            Self::CustomBuckets => {
                for (name, page) in files("pages", "prom") {
                    add(&name, Format::Text, sets(&["nhcb", "nhcb classic"]), page, 200);
                }
                let options = ["nhcb", "nhcb classic", "nhcb start", "nhcb classic start"];
                for (name, page) in files("pages", "om") {
                    add(&name, Format::OpenMetrics, sets(&options), page, 400);
                }
                for (name, page) in every_protobuf_page() {
                    add(&name, Format::Protobuf, sets(CUSTOM_BUCKETS_IN_PROTOBUF), page, 400);
                }
                for format in [Format::Text, Format::OpenMetrics] {
                    add("traps", format, sets(&options), joined(HISTOGRAM_TRAPS, format), 4000);
                }
            }
            Self::TypeAndUnit => {
                for (name, page) in files("pages", "prom") {
                    add(&name, Format::Text, sets(&["typeunit", "typeunit nhcb"]), page, 100);
                }
                for (name, page) in files("pages", "om") {
                    let options = ["typeunit", "typeunit start", "typeunit nhcb"];
                    add(&name, Format::OpenMetrics, sets(&options), page, 200);
                }
                for (name, page) in every_protobuf_page() {
                    add(&name, Format::Protobuf, sets(&["typeunit native", "typeunit nhcb"]), page, 100);
                }
            }
            #[cfg(feature = "openmetrics2")]
            Self::OpenMetrics2 => {
                for (name, page) in files("pages", "om2") {
                    add(&name, Format::OpenMetrics2, sets(OPENMETRICS2_OPTIONS), page, 2500);
                }
                for (name, page) in files("pages", "om") {
                    add(&name, Format::OpenMetrics2, sets(OPENMETRICS2_OPTIONS), page, 300);
                }
                let page = joined(OPENMETRICS2_TRAPS, Format::OpenMetrics2);
                add("traps", Format::OpenMetrics2, sets(OPENMETRICS2_OPTIONS), page, 6000);
            }
        }
        all
    }
}

const CUSTOM_BUCKETS_IN_PROTOBUF: &[&str] = &[
    "nhcb",
    "nhcb classic",
    "nhcb native",
    "nhcb native classic",
    "nhcb start",
    "nhcb native classic start",
];

#[cfg(feature = "openmetrics2")]
const OPENMETRICS2_OPTIONS: &[&str] = &[
    "",
    "native",
    "native classic",
    "start",
    "native start",
    "nhcb",
    "nhcb classic",
    "nhcb native",
    "nhcb native classic",
    "typeunit native",
];

/// The pages in a folder that has one for each target of fuzzing, each with every set of options.
pub(crate) fn found(folder: &Path) -> Vec<Case> {
    let formats = [
        ("text", Format::Text),
        ("openmetrics", Format::OpenMetrics),
        ("openmetrics_strict", Format::OpenMetrics),
        ("protobuf", Format::Protobuf),
        #[cfg(feature = "openmetrics2")]
        ("openmetrics2", Format::OpenMetrics2),
    ];
    let options = [
        "",
        "start",
        "native",
        "native classic start",
        "nhcb",
        "nhcb classic start",
        "typeunit",
        "nhcb native",
    ];
    let mut cases = Cases(Vec::new());
    for (name, format) in formats {
        let Ok(files) = fs::read_dir(folder.join(name)) else { continue };
        for (number, file) in files.enumerate() {
            let page = fs::read(file.unwrap().path()).unwrap();
            for options in options {
                let name = format!("found/{name}/{number}/{options}");
                cases.add(name, format, options, page.clone(), true);
            }
        }
    }
    cases.0
}

/// A part of the whole corpus: what has no mutations, and some of those.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for area in Area::ALL {
        cases.extend(area.cases());
        for mutations in area.mutations() {
            cases.extend((0..mutations.number).step_by(40).map(|number| mutations.case(number)));
        }
    }
    cases
}

struct Cases(Vec<Case>);

impl Cases {
    fn formats(&mut self) {
        for (number, trap) in TRAPS.iter().enumerate() {
            let ended = ended(trap);
            self.add(format!("trap/text/{number}"), Format::Text, "", trap.to_vec(), false);
            self.add(format!("trap/openmetrics/{number}"), Format::OpenMetrics, "", ended.clone(), false);
            self.add(format!("trap/openmetrics-start/{number}"), Format::OpenMetrics, "start", ended, true);
            let endless = format!("trap/openmetrics-endless/{number}");
            self.add(endless, Format::OpenMetrics, "", trap.to_vec(), true);
        }
        for (name, page) in files("openmetrics", "txt") {
            self.add(format!("suite/{name}"), Format::OpenMetrics, "start", page.clone(), false);
            self.add(format!("suite-as-text/{name}"), Format::Text, "", page, true);
        }
        for (name, page) in files("pages", "prom") {
            self.add(format!("page/text/{name}"), Format::Text, "", page.clone(), true);
            self.add(
                format!("page/text-as-openmetrics/{name}"),
                Format::OpenMetrics,
                "start",
                ended(&page),
                true,
            );
        }
        for (name, page) in files("pages", "om") {
            for options in ["", "start"] {
                let name = format!("page/openmetrics{options}/{name}");
                self.add(name, Format::OpenMetrics, options, page.clone(), true);
            }
            self.add(format!("page/openmetrics-as-text/{name}"), Format::Text, "", page, true);
        }
        let mut rng = SeededRng::new(3);
        for number in 0..random_pages() {
            let page = random_page(&mut rng, PIECES);
            let ended = [&page, b"\n# EOF\n".as_slice()].concat();
            self.add(format!("random/text/{number}"), Format::Text, "", page, true);
            let options = if number % 2 == 0 { "" } else { "start" };
            self.add(format!("random/openmetrics/{number}"), Format::OpenMetrics, options, ended, true);
        }
        for flags in 0..8_u8 {
            let words = ["native", "classic", "start"];
            let options: Vec<&str> =
                (0..3).filter(|bit| flags & 1 << bit != 0).map(|bit| words[bit]).collect();
            let options = options.join(" ");
            for (name, page) in protobuf_pages() {
                let name = format!("protobuf/{name}/{flags}");
                self.add(name, Format::Protobuf, &options, page, flags != 3);
            }
            for (name, page) in files("pages", "pb") {
                self.add(format!("page/protobuf/{name}/{flags}"), Format::Protobuf, &options, page, true);
            }
        }
    }

    fn custom_buckets(&mut self) {
        let options = ["nhcb", "nhcb classic", "nhcb start", "nhcb classic start"];
        for (number, trap) in HISTOGRAM_TRAPS.iter().enumerate() {
            for options in options {
                let digest = options != "nhcb classic";
                let (text, open_metrics) = (trap.as_bytes().to_vec(), ended(trap.as_bytes()));
                self.add(format!("trap/text/{number}/{options}"), Format::Text, options, text, digest);
                let name = format!("trap/openmetrics/{number}/{options}");
                self.add(name, Format::OpenMetrics, options, open_metrics, digest);
            }
        }
        for (number, trap) in TRAPS.iter().enumerate() {
            for options in ["nhcb", "nhcb start"] {
                let name = format!("any-trap/text/{number}/{options}");
                self.add(name, Format::Text, options, trap.to_vec(), true);
                let name = format!("any-trap/openmetrics/{number}/{options}");
                self.add(name, Format::OpenMetrics, options, ended(trap), true);
            }
        }
        for options in options {
            for (name, page) in files("pages", "prom") {
                self.add(format!("page/text/{name}/{options}"), Format::Text, options, page, true);
            }
            for (name, page) in files("pages", "om") {
                self.add(
                    format!("page/openmetrics/{name}/{options}"),
                    Format::OpenMetrics,
                    options,
                    page,
                    true,
                );
            }
        }
        for options in CUSTOM_BUCKETS_IN_PROTOBUF {
            for (name, page) in protobuf_pages() {
                let digest = *options != "nhcb classic";
                self.add(format!("protobuf/{name}/{options}"), Format::Protobuf, options, page, digest);
            }
            for (name, page) in files("pages", "pb") {
                self.add(format!("page/protobuf/{name}/{options}"), Format::Protobuf, options, page, true);
            }
        }
    }

    fn type_and_unit(&mut self) {
        for (number, trap) in TRAPS.iter().enumerate() {
            self.add(format!("trap/text/{number}"), Format::Text, "typeunit", trap.to_vec(), true);
            let name = format!("trap/openmetrics/{number}");
            self.add(name, Format::OpenMetrics, "typeunit", ended(trap), true);
        }
        for (number, trap) in traps::TYPE_AND_UNIT_TRAPS.iter().enumerate() {
            for options in ["typeunit", "typeunit nhcb", "typeunit start"] {
                let name = format!("own-trap/text/{number}/{options}");
                self.add(name, Format::Text, options, trap.as_bytes().to_vec(), false);
                let name = format!("own-trap/openmetrics/{number}/{options}");
                self.add(name, Format::OpenMetrics, options, ended(trap.as_bytes()), false);
            }
        }
        for (name, page) in files("pages", "prom") {
            self.add(format!("page/text/{name}"), Format::Text, "typeunit", page, true);
        }
        for (name, page) in files("pages", "om") {
            self.add(format!("page/openmetrics/{name}"), Format::OpenMetrics, "typeunit", page, true);
        }
        for options in ["typeunit", "typeunit native", "typeunit native classic", "typeunit nhcb classic"] {
            for (name, page) in every_protobuf_page() {
                self.add(format!("protobuf/{name}/{options}"), Format::Protobuf, options, page, true);
            }
        }
    }

    #[cfg(feature = "openmetrics2")]
    fn openmetrics2(&mut self) {
        for (number, trap) in TRAPS.iter().enumerate() {
            self.add(format!("trap/{number}"), Format::OpenMetrics2, "native", ended(trap), true);
            let endless = format!("trap-endless/{number}");
            self.add(endless, Format::OpenMetrics2, "native", trap.to_vec(), true);
        }
        for (number, trap) in OPENMETRICS2_TRAPS.iter().enumerate() {
            for options in OPENMETRICS2_OPTIONS {
                let name = format!("own-trap/{number}/{options}");
                let digest = *options != "native classic";
                self.add(name, Format::OpenMetrics2, options, ended(trap.as_bytes()), digest);
            }
        }
        for extension in ["om2", "om"] {
            for (name, page) in files("pages", extension) {
                for options in OPENMETRICS2_OPTIONS {
                    let name = format!("page/{extension}/{name}/{options}");
                    self.add(name, Format::OpenMetrics2, options, page.clone(), true);
                }
            }
        }
        for (name, page) in files("openmetrics", "txt") {
            self.add(format!("suite/{name}"), Format::OpenMetrics2, "native", page, true);
        }
        let mut rng = SeededRng::new(5);
        for number in 0..random_pages() {
            let page = [random_page(&mut rng, OPENMETRICS2_PIECES), b"\n# EOF\n".to_vec()].concat();
            let options = OPENMETRICS2_OPTIONS[number % OPENMETRICS2_OPTIONS.len()];
            self.add(format!("random/{number}"), Format::OpenMetrics2, options, page, true);
        }
    }

    fn add(&mut self, name: String, format: Format, options: &str, page: Vec<u8>, digest: bool) {
        self.0.push(Case { name, format, options: options_of(options), page, digest });
    }
}

/// More than are kept can be judged in one go: `PROMFERRY_RANDOM_PAGES=100000`.
fn random_pages() -> usize {
    env::var("PROMFERRY_RANDOM_PAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000)
}

pub(crate) fn tag(format: Format) -> &'static str {
    match format {
        Format::Text => "text",
        Format::OpenMetrics => "openmetrics",
        #[cfg(feature = "openmetrics2")]
        Format::OpenMetrics2 => "openmetrics2",
        Format::Protobuf => "protobuf",
        other => panic!("no name for {other:?}"),
    }
}

fn sets(options: &[&str]) -> Vec<ParseOptions> {
    options.iter().map(|options| options_of(options)).collect()
}

fn options_of(words: &str) -> ParseOptions {
    let mut options = ParseOptions::default();
    for word in words.split_whitespace() {
        match word {
            "native" => options.native_histograms = true,
            "classic" => options.always_classic_histograms = true,
            "start" => options.parse_start_timestamps = true,
            "nhcb" => options.convert_classic_to_custom_buckets = true,
            "typeunit" => options.type_and_unit_labels = true,
            word => panic!("no option {word:?}"),
        }
    }
    options
}

fn ended(page: &[u8]) -> Vec<u8> {
    [page, b"# EOF\n"].concat()
}

fn joined(traps: &[&str], format: Format) -> Vec<u8> {
    let page = traps.concat().into_bytes();
    if format == Format::Text { page } else { ended(&page) }
}

fn every_protobuf_page() -> Vec<(String, Vec<u8>)> {
    let made = protobuf_pages().into_iter().map(|(name, page)| (format!("made-{name}"), page));
    made.chain(files("pages", "pb")).collect()
}

pub(crate) fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

fn files(folder: &str, extension: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(data("data").join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

fn random_page(rng: &mut SeededRng, pieces: &[&str]) -> Vec<u8> {
    let mut page = Vec::new();
    for _ in 0..1 + below(rng, 14) {
        page.extend_from_slice(pieces[below(rng, pieces.len())].as_bytes());
    }
    page
}

/// FNV-1a of 64 bits.
pub(crate) fn seed_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn below(rng: &mut SeededRng, bound: usize) -> usize {
    (rng.next_u64() % bound as u64) as usize
}
