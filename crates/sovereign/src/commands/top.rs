//! `sovereign top`.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use sovereign_engine::incus::Reach;
use sovereign_model::Stack;
use sovereign_model::layout::StateFolder;

use crate::context::Context;
use crate::declared::Declared;
use crate::failure::{Failure, Reason};
use crate::gather::gather;
use crate::hosts;
use crate::interrupt;
use crate::top::{Figures, Moment, view};

/// How far moments lie apart.
const TICK: Duration = Duration::from_secs(1);

/// The terminal does not do what it is told.
#[derive(Debug, thiserror::Error)]
#[error("the terminal cannot be used")]
struct NoTerminal(#[source] io::Error);

impl Reason for NoTerminal {
    fn help(&self) -> Option<String> {
        Some("`sovereign top | cat` prints the figures once".to_owned())
    }
}

/// Shows the figures live until a key ends it; once where stdout is no terminal. Gives the last figures.
pub(crate) fn run(context: &Context) -> Result<Figures, Failure> {
    let declared = Declared::load(context)?;
    let reach = hosts::reach(&declared)?;
    let Declared { stack, state, .. } = declared;
    sovereign_engine::state::read(&state)?;
    let live = io::stdout().is_terminal() && io::stdin().is_terminal() && !context.output.is_json();
    interrupt::run(&context.output, |cancel| async move {
        let began = Instant::now();
        let mut before = None;
        let mut now = moment(&stack, &state, &reach, began).await?;
        if !live {
            tokio::time::sleep(TICK).await;
            before = Some(std::mem::replace(&mut now, moment(&stack, &state, &reach, began).await?));
            return Ok(Figures::between(stack.name.clone(), before.as_ref(), &now));
        }
        let mut screen = Screen::open()?;
        loop {
            let figures = Figures::between(stack.name.clone(), before.as_ref(), &now);
            screen.0.draw(|frame| view::draw(frame, &figures)).map_err(NoTerminal)?;
            let key = cancel.run_until_cancelled(tokio::task::spawn_blocking(wait));
            match key.await.and_then(Result::ok).transpose().map_err(NoTerminal)? {
                Some(Wish::Go) => {
                    before = Some(std::mem::replace(&mut now, moment(&stack, &state, &reach, began).await?))
                }
                Some(Wish::Redraw) => {}
                Some(Wish::Leave) | None => return Ok(figures),
            }
        }
    })
}

async fn moment(stack: &Stack, state: &StateFolder, reach: &Reach, began: Instant) -> Result<Moment, Failure> {
    let gathered = gather(stack, state, reach).await?;
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    Ok(Moment { at: began.elapsed(), unix, gathered })
}

/// The terminal in raw mode, on its other screen, until dropped.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> Result<Self, NoTerminal> {
        ratatui::try_init().map(Self).map_err(NoTerminal)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = ratatui::try_restore();
    }
}

/// What comes next.
enum Wish {
    Go,
    Redraw,
    Leave,
}

/// Waits for a key that means something, one tick at most.
fn wait() -> io::Result<Wish> {
    let until = Instant::now() + TICK;
    while event::poll(until.saturating_duration_since(Instant::now()))? {
        match event::read()? {
            Event::Resize(..) => return Ok(Wish::Redraw),
            Event::Key(key) if key.kind == KeyEventKind::Press => {
                // In raw mode Ctrl-C is a key.
                let interrupts = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if interrupts || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(Wish::Leave);
                }
            }
            _ => {}
        }
    }
    Ok(Wish::Go)
}
