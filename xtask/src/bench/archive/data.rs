//! What is backed up: what a site of some years has, the same bytes at each run, and how it changes from day to day.
//!
//! ```text
//!  images/..     pictures: nothing compresses them, sizes log-normal                        77 %
//!  pages/..      small HTML files                                                            12 %
//!  database/     a table of posts: as SQL, as mariadb-dump writes it, and as a database
//!                as SQLite's VACUUM INTO writes it, which is what our backup of a Ghost has  11 %
//!  ghost/..      the content folder of a real Ghost, where an image of it is built
//! ```
//!
//! A day: 2 % of the posts are changed, in groups of 50 that lie everywhere in the table; some are written; pictures are
//! added, 2 % of what there is; some pages are changed, some are gone.

use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::run::{read, target};

/// A file that is there on every day.
pub(super) const ONE: &str = "images/00/picture-0.jpg";

/// All random numbers follow from it.
const SEED: u64 = 4;
/// The middle of the sizes of pictures, and how they scatter: a mean of 1.1 MB.
const PICTURE: (f64, f64) = (800_000.0, 0.8);
/// The same of pages: a mean of 7.7 kB.
const PAGE: (f64, f64) = (6_000.0, 0.7);
/// A post as SQL, about.
const POST: u64 = 560;
/// Posts that change together.
const GROUP: usize = 50;

/// The data, and what of it there is on which day.
pub(super) struct Data {
    pub(super) folder: PathBuf,
    /// Beside it: a database before SQLite writes it anew.
    work: PathBuf,
    random: Random,
    words: Vec<String>,
    /// Of each post, how often it was changed.
    posts: Vec<u32>,
    pictures: usize,
    /// Numbers of those that are there.
    pages: Vec<usize>,
    ghost: Ghost,
    files: u64,
    bytes: u64,
}

/// Where the content folder of a Ghost comes from.
enum Ghost {
    Real(PathBuf),
    MadeUp,
}

impl Data {
    /// Writes `megabytes` of it below `scratch`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(scratch: &Path, megabytes: u64) -> Result<Self> {
        let folder = scratch.join("data");
        for part in ["images", "pages", "database", "ghost"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let mut random = Random(SEED);
        let words = (0..3000).map(|_| random.word()).collect();
        let posts = vec![0; usize::try_from(megabytes * 1_000_000 * 11 / 200 / POST)?.max(GROUP)];
        let ghost = ghost();
        let (work, pages) = (scratch.join("work.db"), Vec::new());
        let mut data = Self { folder, work, random, words, posts, pictures: 0, pages, ghost, files: 0, bytes: 0 };
        fs::write(data.folder.join("index.html"), data.page())?;
        data.add_pictures(megabytes * 770_000)?;
        let mut left = i64::try_from(megabytes * 120_000)?;
        while left > 0 {
            let number = data.pages.len();
            data.pages.push(number);
            left -= i64::try_from(data.write_page(number)?)?;
        }
        data.write_database()?;
        match &data.ghost {
            Ghost::Real(content) => {
                let to = data.folder.join("ghost/content");
                read(Command::new("cp").args(["--recursive", "--no-dereference"]).arg(content).arg(to))?;
            }
            Ghost::MadeUp => {
                fs::create_dir_all(data.folder.join("ghost/content/themes/made-up"))?;
                for number in 0..200 {
                    let page = data.page();
                    fs::write(data.folder.join(format!("ghost/content/themes/made-up/{number}.hbs")), page)?;
                }
            }
        }
        (data.files, data.bytes) = count(&data.folder)?;
        Ok(data)
    }

    /// What it is, for people.
    pub(super) fn told(&self) -> String {
        let ghost = match &self.ghost {
            Ghost::Real(_) => "the content folder of a real Ghost among it",
            Ghost::MadeUp => {
                "without a real Ghost's content folder: no image of Ghost is built here (`cargo xtask test e2e` builds \
                 one), a made-up theme stands in for it"
            }
        };
        format!("data: {} files, {:.0} MB, {ghost}", self.files, self.bytes as f64 / 1e6)
    }

    /// Changes it as a day does.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn next_day(&mut self) -> Result<()> {
        let of_pictures = self.pictures as u64 * mean(PICTURE) / 50;
        self.add_pictures(of_pictures)?;
        for _ in 0..self.pages.len() / 150 {
            let at = self.random.below(self.pages.len());
            self.write_page(self.pages[at])?;
        }
        for _ in 0..self.pages.len() / 750 {
            let at = self.random.below(self.pages.len());
            let gone = self.pages.swap_remove(at);
            fs::remove_file(self.page_file(gone))?;
        }
        self.next_dump()
    }

    /// Changes the database only.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn next_dump(&mut self) -> Result<()> {
        for _ in 0..(self.posts.len() / GROUP / 50).max(1) {
            let from = self.random.below(self.posts.len() - GROUP + 1);
            self.posts[from..from + GROUP].iter_mut().for_each(|changes| *changes += 1);
        }
        self.posts.extend(vec![0; self.posts.len() / 130]);
        self.write_database()
    }

    fn add_pictures(&mut self, bytes: u64) -> Result<()> {
        let mut left = i64::try_from(bytes)?;
        while left > 0 {
            let (number, size) = (self.pictures, self.random.log_normal(PICTURE));
            let file = self.folder.join(format!("images/{:02}/picture-{number}.jpg", number % 100));
            fs::create_dir_all(file.parent().context("a picture lies in a folder")?)?;
            let mut file = BufWriter::new(fs::File::create(file)?);
            file.write_all(&[0xff, 0xd8, 0xff, 0xe0])?;
            for _ in 0..size / 8 {
                file.write_all(&self.random.next().to_le_bytes())?;
            }
            file.flush()?;
            self.pictures += 1;
            left -= i64::try_from(size)?;
        }
        Ok(())
    }

    fn page_file(&self, number: usize) -> PathBuf {
        self.folder.join(format!("pages/{:03}/{number}.html", number % 300))
    }

    fn write_page(&mut self, number: usize) -> Result<usize> {
        let (file, page) = (self.page_file(number), self.page());
        fs::create_dir_all(file.parent().context("a page lies in a folder")?)?;
        fs::write(file, &page)?;
        Ok(page.len())
    }

    fn page(&mut self) -> String {
        let size = usize::try_from(self.random.log_normal(PAGE)).unwrap_or_default();
        let title = sentence(&mut self.random, &self.words, 6);
        let mut page = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <link rel=\"stylesheet\" href=\"/assets/style.css\"></head><body><h1>{title}</h1>\n"
        );
        while page.len() < size {
            let (text, link) = (sentence(&mut self.random, &self.words, 40), self.random.below(10_000));
            writeln!(page, "<p>{text} <a href=\"/pages/{link}.html\">more</a></p>").expect("strings take text");
        }
        page.push_str("</body></html>\n");
        page
    }

    /// The table, whole, twice: what a post says follows from its number and how often it was changed.
    fn write_database(&self) -> Result<()> {
        let sql = self.folder.join("database/posts.sql");
        let mut file = BufWriter::new(fs::File::create(&sql)?);
        writeln!(
            file,
            "CREATE TABLE posts (id INTEGER PRIMARY KEY, uuid TEXT, title TEXT, html TEXT, updated INTEGER);"
        )?;
        writeln!(file, "BEGIN;")?;
        for (id, changes) in self.posts.iter().enumerate() {
            let mut random = Random(SEED ^ (id as u64) << 20 ^ u64::from(*changes) << 56);
            let (uuid, words) = (random.next(), 40 + random.below(40));
            let title = sentence(&mut random, &self.words, 6);
            let html = sentence(&mut random, &self.words, words);
            let updated = 1_700_000_000 + id as u64 * 60 + u64::from(*changes) * 86_400;
            writeln!(file, "INSERT INTO posts VALUES ({id},'{uuid:032x}','{title}','<p>{html}</p>',{updated});")?;
        }
        writeln!(file, "COMMIT;")?;
        file.flush()?;
        let _ = fs::remove_file(&self.work);
        let anew = self.work.with_extension("anew");
        let mut sqlite = Command::new("sqlite3");
        sqlite.arg("-bail").args(["-cmd", "PRAGMA journal_mode = OFF", "-cmd", "PRAGMA synchronous = OFF"]);
        sqlite.arg(&self.work).stdin(fs::File::open(&sql)?).stdout(Stdio::null());
        ensure!(sqlite.status().context("cannot run sqlite3")?.success(), "sqlite3 does not take the table");
        read(Command::new("sqlite3").arg(&self.work).arg(format!("VACUUM INTO '{}'", anew.display())))?;
        Ok(fs::rename(anew, self.folder.join("database/posts.db"))?)
    }
}

/// The content folder in an image of Ghost: of the one that is named, or of those that the end-to-end tests have built.
fn ghost() -> Ghost {
    let named = std::env::var_os("SOVEREIGN_GHOST_IMAGE").map(PathBuf::from);
    let cache = std::env::var_os("SOVEREIGN_E2E_CACHE").map_or_else(|| target().join("tmp/cache"), PathBuf::from);
    let built = fs::read_dir(cache.join("sovereign/images")).into_iter().flatten().flatten();
    let roots = named.into_iter().chain(built.map(|image| image.path().join("root")));
    let content = roots.map(|root| root.join("app/content")).find(|content| content.is_dir());
    content.map_or(Ghost::MadeUp, Ghost::Real)
}

fn count(folder: &Path) -> Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (more, their) =
            if entry.file_type()?.is_dir() { count(&entry.path())? } else { (1, entry.metadata()?.len()) };
        (files, bytes) = (files + more, bytes + their);
    }
    Ok((files, bytes))
}

fn sentence(random: &mut Random, words: &[String], count: usize) -> String {
    let mut text = String::new();
    for _ in 0..count {
        // A few words are most of a text.
        let rank = random.fraction().powi(3) * words.len() as f64;
        text.push_str(words.get(rank as usize).map_or("", String::as_str));
        text.push(' ');
    }
    text.pop();
    text
}

/// Of a log-normal distribution with this middle.
fn mean((middle, scatter): (f64, f64)) -> u64 {
    (middle * (scatter * scatter / 2.0).exp()) as u64
}

/// SplitMix64: numbers that nothing compresses, the same from the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// In 0..1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.fraction() * bound as f64) as usize
    }

    /// Not without an end: ten times the middle is the most.
    fn log_normal(&mut self, (middle, scatter): (f64, f64)) -> u64 {
        let normal = (-2.0 * (1.0 - self.fraction()).ln()).sqrt() * (TAU * self.fraction()).cos();
        (middle * (scatter * normal).exp()).clamp(middle / 10.0, middle * 10.0) as u64
    }

    fn word(&mut self) -> String {
        const SYLLABLES: [&str; 16] =
            ["ba", "de", "fi", "go", "lu", "mar", "ne", "or", "pi", "qua", "ri", "so", "ta", "un", "ver", "zin"];
        (0..1 + self.below(4)).map(|_| SYLLABLES[self.below(SYLLABLES.len())]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let numbers = |seed| {
            let mut random = Random(seed);
            [random.next(), random.next(), random.next()]
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
    }

    #[test]
    fn sizes_are_about_their_mean() {
        let mut random = Random(SEED);
        let sum: u64 = (0..10_000).map(|_| random.log_normal(PICTURE)).sum();
        let ratio = sum as f64 / 10_000.0 / mean(PICTURE) as f64;
        assert!((0.9..1.1).contains(&ratio), "{ratio}");
    }
}
