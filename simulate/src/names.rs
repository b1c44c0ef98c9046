//! Names of companies, people and services, drawn from lists long enough that seeds differ.

use std::collections::HashSet;

use crate::dice::Dice;

const COMPANY: &[&str] = &[
    "northpeak",
    "bluefern",
    "quillstone",
    "harborline",
    "tidewell",
    "amberfox",
    "lumenrail",
    "cedarbyte",
    "ironlark",
    "skyfarrow",
    "velvetpine",
    "orchardly",
    "brightmoor",
    "coldspring",
    "gatehouse",
    "mapleworks",
    "ravenfield",
    "saltmarsh",
    "thistlebank",
    "westerby",
];
const SUBJECT: &[&str] = &[
    "billing",
    "orders",
    "catalog",
    "search",
    "invoice",
    "payments",
    "ledger",
    "fraud",
    "pricing",
    "inventory",
    "shipping",
    "returns",
    "loyalty",
    "consent",
    "profile",
    "session",
    "notify",
    "mail",
    "media",
    "thumbnail",
    "video",
    "metrics",
    "logs",
    "audit",
    "backup",
    "snapshot",
    "warehouse",
    "features",
    "training",
    "inference",
    "ranking",
    "recommend",
    "ads",
    "campaign",
    "crm",
    "support",
    "ticket",
    "docs",
    "sitemap",
    "feed",
    "partner",
    "tax",
    "payroll",
    "hr",
    "cert",
    "dns",
    "cache",
    "queue",
    "geo",
    "route",
    "fleet",
    "sensor",
    "quality",
    "forecast",
];
const WORK: &[&str] = &[
    "exporter",
    "sync",
    "worker",
    "indexer",
    "importer",
    "reporter",
    "archiver",
    "gateway",
    "scheduler",
    "consumer",
    "publisher",
    "loader",
    "cleaner",
    "api",
    "etl",
    "poller",
    "mirror",
    "bridge",
    "collector",
    "signer",
    "resizer",
    "enricher",
    "reconciler",
    "uploader",
    "watcher",
];
const FIRST: &[&str] = &[
    "amira", "anders", "bea", "carlos", "chiara", "dana", "dmitri", "elif", "emeka", "farid",
    "freya", "gita", "hana", "hugo", "ines", "ivan", "jae", "joana", "kofi", "lena", "liam",
    "mateo", "mei", "milan", "nadia", "niko", "olu", "paula", "priya", "quentin", "rafael", "rosa",
    "sam", "sina", "tariq", "tess", "uma", "viktor", "wen", "yara", "yusuf", "zoe",
];
const LAST: &[&str] = &[
    "abara", "almeida", "berg", "castillo", "chen", "dubois", "eriksen", "fischer", "garcia",
    "haddad", "ito", "jansen", "kaya", "kowalski", "larsen", "lopez", "mbeki", "moreau",
    "nakamura", "novak", "okafor", "olsen", "patel", "petrov", "quinn", "rao", "rossi", "sato",
    "schmidt", "silva", "singh", "tanaka", "ueda", "vargas", "weber", "wong", "yilmaz", "zhang",
    "zimmer",
];

/// Draws names and never the same one twice.
#[derive(Default)]
pub(crate) struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// A company's name, such as `northpeak`.
    pub(crate) fn company(dice: &mut Dice) -> String {
        (*dice.pick(COMPANY)).to_owned()
    }

    /// A service's name, such as `orders-exporter`.
    pub(crate) fn service(&mut self, dice: &mut Dice) -> String {
        let style = dice.below(4);
        self.fresh(dice, |dice| {
            let (subject, work) = (dice.pick(SUBJECT), dice.pick(WORK));
            match style {
                0 => format!("{subject}-{work}-prod"),
                1 => format!("svc-{subject}-{work}"),
                _ => format!("{subject}-{work}"),
            }
        })
    }

    /// First and last name, small, with a dot between.
    pub(crate) fn person(&mut self, dice: &mut Dice) -> String {
        self.fresh(dice, |dice| format!("{}.{}", dice.pick(FIRST), dice.pick(LAST)))
    }

    fn fresh(&mut self, dice: &mut Dice, draw: impl Fn(&mut Dice) -> String) -> String {
        let mut name = draw(dice);
        for _ in 0..4 {
            if !self.taken.contains(&name) {
                break;
            }
            name = draw(dice);
        }
        // A large estate runs out of pairs.
        while !self.taken.insert(name.clone()) {
            name = format!("{name}{}", dice.range(2, 99));
        }
        name
    }
}

/// `rosa.silva` as `Rosa Silva`.
pub(crate) fn display(name: &str) -> String {
    name.split('.')
        .map(|part| {
            let mut chars = part.chars();
            let first = chars.next().map(|first| first.to_ascii_uppercase());
            first.into_iter().chain(chars).collect::<String>()
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// What a service reads and writes, such as `orders-exporter-data`.
pub(crate) fn resource(dice: &mut Dice, service: &str) -> String {
    let kind = dice.pick(&["data", "exports", "archive", "config", "staging", "events", "cache"]);
    let subject = if dice.chance(0.6) {
        service.trim_end_matches("-prod").trim_start_matches("svc-").to_owned()
    } else {
        (*dice.pick(SUBJECT)).to_owned()
    };
    format!("{subject}-{kind}")
}
