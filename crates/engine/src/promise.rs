//! [`Promise`]: one outcome that comes once, for everyone who waits, polls or left a callback.
//!
//! Callbacks run on the thread that brings the outcome, without a lock.

use crate::Result;
use sluice_base::{Error, ErrorKind};
use sluice_env::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Callback<T> = Box<dyn FnOnce(Result<T>) + Send>;

struct State<T> {
    outcome: Option<Result<T>>,
    callbacks: Vec<Callback<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    done: Condvar,
}

/// Clones are the same promise.
pub(crate) struct Promise<T>(Arc<Shared<T>>);

impl<T> Clone for Promise<T> {
    fn clone(&self) -> Self {
        Promise(Arc::clone(&self.0))
    }
}

impl<T> Default for Promise<T> {
    fn default() -> Self {
        let state = Mutex::new(State { outcome: None, callbacks: Vec::new() });
        Promise(Arc::new(Shared { state, done: Condvar::new() }))
    }
}

pub(crate) fn copy<T: Clone>(outcome: &Result<T>) -> Result<T> {
    match outcome {
        Ok(value) => Ok(value.clone()),
        Err(error) => Err(error.duplicate()),
    }
}

impl<T: Clone> Promise<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the outcome, at most `deadline`; then `TimedOut`, which calls the work `what`.
    pub(crate) fn wait(&self, deadline: Option<Duration>, what: &str) -> Result<T> {
        let state = self.state();
        let unfinished = |state: &mut State<T>| state.outcome.is_none();
        let state = match deadline {
            None => {
                self.0.done.wait_while(state, unfinished).unwrap_or_else(PoisonError::into_inner)
            }
            Some(limit) => {
                let waited = self.0.done.wait_timeout_while(state, limit, unfinished);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        match &state.outcome {
            Some(outcome) => copy(outcome),
            None => Err(Error::new(
                ErrorKind::TimedOut,
                format!("the {what} has not finished within the deadline; it goes on"),
            )),
        }
    }

    pub(crate) fn poll(&self) -> Option<Result<T>> {
        self.state().outcome.as_ref().map(copy)
    }

    /// Runs `callback` with the outcome: at once when it is there.
    pub(crate) fn on_done(&self, callback: impl FnOnce(Result<T>) + Send + 'static) {
        let mut state = self.state();
        match &state.outcome {
            None => state.callbacks.push(Box::new(callback)),
            Some(outcome) => {
                let outcome = copy(outcome);
                drop(state);
                callback(outcome);
            }
        }
    }

    /// Brings the outcome. Only the first counts.
    pub(crate) fn keep(&self, outcome: Result<T>) {
        let callbacks = {
            let mut state = self.state();
            if state.outcome.is_some() {
                return;
            }
            state.outcome = Some(copy(&outcome));
            std::mem::take(&mut state.callbacks)
        };
        self.0.done.notify_all();
        for callback in callbacks {
            callback(copy(&outcome));
        }
    }
}
