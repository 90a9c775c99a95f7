//! Lists of many objects, in parallel.
//!
//! S3 lists 1000 keys at a time, and gives each page the token of the next one. So where a first page is not all there is, its folders are asked for, and the
//! keys are cut at some of them into ranges, each of about a page. The ranges are listed side by side, and a range that turns out to be long is cut again.
//!
//! ```text
//!   a page ──(there is more)──> folders behind it ──> ranges [.., f1) [f1, f2) … [fn, ..)
//!     ▲                                                   │
//!     └───────────────────────────────────────────────────┘
//! ```
//!
//! Objects come in the order of their keys. What was listed ahead of that order is bounded ([`AHEAD`]).

use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::{DELIMITER, Path};
use object_store::{ObjectMeta, Result};
use std::collections::VecDeque;
use std::sync::Arc;

/// Requests at a time.
const AT_A_TIME: usize = 32;
/// Pages of a range after which it is cut.
const PATIENCE: usize = 4;
/// Keys that a page has, at most.
const PAGE: usize = 1000;
/// Ranges that one cut makes, at most.
const RANGES: usize = 128;
/// Objects that are listed before their turn, about.
const AHEAD: usize = 64 * PAGE;

/// Lists the objects below a folder whose keys come after `offset`.
pub(crate) fn list<S>(
    store: Arc<S>,
    folder: Option<&Path>,
    offset: Option<&Path>,
) -> BoxStream<'static, Result<ObjectMeta>>
where
    S: PaginatedListStore,
{
    let folder = folder.filter(|folder| !folder.is_root()).map(|folder| format!("{folder}{DELIMITER}"));
    let first = Range {
        folder: folder.unwrap_or_default(),
        next: Next::After(offset.map(ToString::to_string)),
        until: None,
        pages: PATIENCE - 1,
    };
    let lister =
        Lister { store, slots: VecDeque::from([Slot::new(0, first)]), slot_ids: 1, running: FuturesUnordered::new() };
    stream::try_unfold(lister, Lister::next).map_ok_flat().boxed()
}

/// Keys of a folder, up to that of the mark of another one: a folder's mark, whose path lacks the slash of its key, is of the range before the folder.
#[derive(Debug)]
struct Range {
    /// Empty, or with a slash at its end.
    folder: String,
    next: Next,
    until: Option<String>,
    /// Pages since it was tried to cut it.
    pages: usize,
}

#[derive(Debug)]
enum Next {
    After(Option<String>),
    /// The token of a page.
    Token(String),
}

/// A range whose objects have their turn after those of the slots before it.
struct Slot {
    id: u64,
    found: VecDeque<ObjectMeta>,
    state: State,
}

enum State {
    Waiting(Range),
    Running,
    Done,
}

impl Slot {
    fn new(id: u64, range: Range) -> Self {
        Self { id, found: VecDeque::new(), state: State::Waiting(range) }
    }
}

/// What a step through a range has brought: its objects, and the ranges that are left of it.
struct Step {
    slot: u64,
    found: Vec<ObjectMeta>,
    left: Vec<Range>,
}

struct Lister<S> {
    store: Arc<S>,
    slots: VecDeque<Slot>,
    slot_ids: u64,
    running: FuturesUnordered<BoxFuture<'static, Result<Step>>>,
}

impl<S: PaginatedListStore> Lister<S> {
    /// Returns the next objects.
    async fn next(mut self) -> Result<Option<(VecDeque<ObjectMeta>, Self)>> {
        loop {
            match self.slots.front_mut() {
                None => return Ok(None),
                Some(first) if !first.found.is_empty() => {
                    let found = std::mem::take(&mut first.found);
                    return Ok(Some((found, self)));
                }
                Some(Slot { state: State::Done, .. }) => {
                    self.slots.pop_front();
                    continue;
                }
                Some(_) => {}
            }
            self.start();
            match self.running.next().await {
                Some(step) => self.put(step?),
                // The first slot has always begun.
                None => return Ok(None),
            }
        }
    }

    fn start(&mut self) {
        let mut ahead: usize = self.slots.iter().map(|slot| slot.found.len()).sum();
        for (place, slot) in self.slots.iter_mut().enumerate() {
            if self.running.len() >= AT_A_TIME || place > 0 && ahead >= AHEAD {
                return;
            }
            if slot.found.len() >= 2 * PAGE || !matches!(slot.state, State::Waiting(_)) {
                continue;
            }
            if let State::Waiting(range) = std::mem::replace(&mut slot.state, State::Running) {
                ahead += PAGE;
                self.running.push(step(Arc::clone(&self.store), slot.id, range).boxed());
            }
        }
    }

    fn put(&mut self, step: Step) {
        let Some(place) = self.slots.iter().position(|slot| slot.id == step.slot) else { return };
        let mut left = step.left.into_iter();
        let slot = &mut self.slots[place];
        slot.found.extend(step.found);
        slot.state = left.next().map_or(State::Done, State::Waiting);
        for (further, range) in left.enumerate() {
            self.slots.insert(place + 1 + further, Slot::new(self.slot_ids, range));
            self.slot_ids += 1;
        }
    }
}

/// Lists one page of a range, and cuts what is left if it may be much.
async fn step<S: PaginatedListStore>(store: Arc<S>, slot: u64, mut range: Range) -> Result<Step> {
    let options = match &range.next {
        Next::After(after) => PaginatedListOptions { offset: after.clone(), ..Default::default() },
        Next::Token(token) => PaginatedListOptions { page_token: Some(token.clone()), ..Default::default() },
    };
    let page = store.list_paginated(prefix(&range.folder), options).await?;
    let PaginatedListResult { mut result, page_token } = page;
    let last = result.objects.last().map(|object| object.location.to_string());
    let is_over = |key: &str| range.until.as_deref().is_some_and(|until| key >= until);
    let token = page_token.filter(|_| !last.as_deref().is_some_and(is_over));
    let (Some(token), Some(last)) = (token, last) else {
        result.objects.retain(|object| range.holds(object));
        return Ok(Step { slot, found: result.objects, left: Vec::new() });
    };
    let is_ordered = result.objects.windows(2).all(|pair| are_ordered(&pair[0], &pair[1]));
    result.objects.retain(|object| range.holds(object));
    let found = result.objects;
    range.next = Next::Token(token);
    range.pages += 1;
    if range.pages < PATIENCE || !is_ordered {
        // A server that lists in another order than S3 gives its pages one after the other.
        return Ok(Step { slot, found, left: vec![range] });
    }
    range.pages = 0;
    let left = cut(store.as_ref(), range, &found, &last).await?;
    Ok(Step { slot, found, left })
}

/// Whether two objects are in the order of their keys. The second may be the mark of a folder, whose key ends in a slash.
fn are_ordered(one: &ObjectMeta, other: &ObjectMeta) -> bool {
    let (one, other) = (one.location.as_ref(), other.location.as_ref());
    one <= other || *one < *format!("{other}{DELIMITER}")
}

impl Range {
    fn holds(&self, object: &ObjectMeta) -> bool {
        self.until.as_deref().is_none_or(|until| object.location.as_ref() < until)
    }
}

/// Cuts the keys of a range that come after `last` at some of its folders. `listed`: the page before.
async fn cut<S: PaginatedListStore>(
    store: &S,
    mut range: Range,
    listed: &[ObjectMeta],
    last: &str,
) -> Result<Vec<Range>> {
    // It may be a mark, and what comes before it was listed.
    let seen = format!("{last}{DELIMITER}");
    let mut folder = range.folder.clone();
    let (folders, is_more) = loop {
        let options = PaginatedListOptions {
            offset: Some(last.to_string()),
            delimiter: Some(DELIMITER.into()),
            ..Default::default()
        };
        let page = store.list_paginated(prefix(&folder), options).await?;
        let (folders, objects) = (page.result.common_prefixes, page.result.objects);
        let is_inside = |key: &str| range.until.as_deref().is_none_or(|until| key < until);
        let mut folders: Vec<String> = folders.iter().map(|folder| format!("{folder}{DELIMITER}")).collect();
        let is_more = page.page_token.is_some() && folders.iter().all(|folder| is_inside(folder));
        folders.retain(|folder| is_inside(folder));
        let has_files = objects.iter().any(|object| is_inside(object.location.as_ref()));
        match folders.as_slice() {
            // All that is left is in one folder.
            [only] if !has_files && !is_more => folder.clone_from(only),
            _ => break (folders, is_more),
        }
    };
    let cuts: Vec<&String> = folders.iter().filter(|folder| **folder >= seen).collect();
    let child = |object: &ObjectMeta| {
        let below = object.location.as_ref().strip_prefix(folder.as_str())?.split(DELIMITER).next()?;
        Some(below.to_string())
    };
    let mut children: Vec<String> = listed.iter().filter_map(child).collect();
    children.dedup();
    let pages = cuts.len() * listed.len() / children.len().max(1) / PAGE;
    let wanted = (pages + 1).clamp(if is_more { 2 } else { 1 }, RANGES).min(cuts.len() + 1);
    let mut ranges = Vec::with_capacity(wanted);
    let until = range.until.take();
    for number in 1..wanted {
        // With more folders behind them, the last one begins what nobody has seen.
        let cut =
            if is_more && number + 1 == wanted { cuts[cuts.len() - 1] } else { cuts[number * cuts.len() / wanted] };
        range.until = Some(cut.clone());
        let next = Range { folder: range.folder.clone(), next: Next::After(Some(cut.clone())), until: None, pages: 0 };
        ranges.push(std::mem::replace(&mut range, next));
    }
    range.until = until;
    ranges.push(range);
    Ok(ranges)
}

fn prefix(folder: &str) -> Option<&str> {
    (!folder.is_empty()).then_some(folder)
}

trait MapOkFlat {
    fn map_ok_flat(self) -> BoxStream<'static, Result<ObjectMeta>>;
}

impl<T: futures::Stream<Item = Result<VecDeque<ObjectMeta>>> + Send + 'static> MapOkFlat for T {
    fn map_ok_flat(self) -> BoxStream<'static, Result<ObjectMeta>> {
        let flat = self.flat_map(|found| match found {
            Ok(found) => stream::iter(found).map(Ok).left_stream(),
            Err(error) => stream::once(async { Err(error) }).right_stream(),
        });
        flat.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use chrono::DateTime;
    use futures::TryStreamExt;
    use object_store::ListResult;
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// Keys that are listed as S3 lists them, some time after the question.
    #[derive(Default)]
    struct Keys {
        keys: BTreeSet<String>,
        calls: AtomicUsize,
        running: AtomicUsize,
        most: AtomicUsize,
    }

    #[async_trait]
    impl PaginatedListStore for Keys {
        async fn list_paginated(
            &self,
            prefix: Option<&str>,
            opts: PaginatedListOptions,
        ) -> Result<PaginatedListResult> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            self.most.fetch_max(self.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
            self.running.fetch_sub(1, Ordering::SeqCst);
            let prefix = prefix.unwrap_or_default();
            let after = opts.page_token.or(opts.offset).unwrap_or_default();
            let (mut objects, mut common_prefixes, mut end) = (Vec::new(), Vec::<Path>::new(), None::<String>);
            for key in self.keys.range(after.clone()..).filter(|key| **key > after && key.starts_with(prefix)) {
                let child = opts.delimiter.as_ref().and_then(|_| key[prefix.len()..].find('/'));
                let child = child.map(|end| &key[..prefix.len() + end + 1]);
                if child.is_some_and(|child| end.as_deref().is_some_and(|end| end.starts_with(child))) {
                    end = Some(key.clone());
                    continue;
                }
                if objects.len() + common_prefixes.len() == PAGE {
                    return Ok(PaginatedListResult {
                        result: ListResult { objects, common_prefixes },
                        page_token: end,
                    });
                }
                match child {
                    Some(child) => common_prefixes.push(Path::parse(child).unwrap()),
                    None => objects.push(ObjectMeta {
                        location: Path::parse(key).unwrap(),
                        last_modified: DateTime::UNIX_EPOCH,
                        size: 1,
                        e_tag: None,
                        version: None,
                    }),
                }
                end = Some(key.clone());
            }
            Ok(PaginatedListResult { result: ListResult { objects, common_prefixes }, page_token: None })
        }
    }

    /// Returns the calls, and those at a time.
    async fn listed(keys: impl IntoIterator<Item = String>, folder: &str, offset: Option<&str>) -> (usize, usize) {
        let store = Arc::new(Keys { keys: keys.into_iter().collect(), ..Keys::default() });
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let is_meant = |key: &&String| key.starts_with(&prefix) && offset.is_none_or(|offset| key.as_str() > offset);
        let expected: Vec<String> =
            store.keys.iter().filter(is_meant).map(|key| key.trim_end_matches('/').to_string()).collect();
        let (folder, offset) = (Path::from(folder), offset.map(|offset| Path::parse(offset).unwrap()));
        let found: Vec<_> = list(Arc::clone(&store), Some(&folder), offset.as_ref()).try_collect().await.unwrap();
        let found: Vec<String> = found.into_iter().map(|object| object.location.to_string()).collect();
        assert!(found == expected, "{} objects of {}", found.len(), expected.len());
        (store.calls.load(Ordering::SeqCst), store.most.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn many_folders_are_listed_side_by_side() {
        let keys = (0..100_000).map(|n| format!("t/day={:03}/{n:06}.parquet", n / 100));
        let (calls, at_a_time) = listed(keys, "t", None).await;
        assert!(calls < 300 && at_a_time > 16, "{calls} {at_a_time}");
        // Deep, and with few folders at the top.
        let keys = (0..100_000).map(|n| format!("t/a/year={}/hour={:04}/{n:06}.csv", n / 50_000, n / 20));
        let (calls, at_a_time) = listed(keys, "t", None).await;
        assert!(calls < 400 && at_a_time > 8, "{calls} {at_a_time}");
    }

    #[tokio::test]
    async fn few_objects_are_listed_as_ever() {
        for count in [0, 1, 999, 1000] {
            let keys = (0..count).map(|n| format!("t/{}/{n}", n % 7));
            assert_eq!(listed(keys, "t", None).await.0, 1, "{count}");
        }
    }

    #[tokio::test]
    async fn no_folder_is_cut_and_none_is_listed_twice() {
        // Flat; a folder of one object each; names that begin with each other; marks of folders.
        let (calls, _) = listed((0..20_000).map(|n| format!("t/{n:06}")), "t", None).await;
        assert!(calls < 30, "{calls}");
        let (calls, _) = listed((0..20_000).map(|n| format!("t/{n:06}/x")), "t", None).await;
        assert!(calls < 40, "{calls}");
        let awkward = || {
            let folders = ["a", "a-1", "a.b", "a b", "aä", "b", "b%2F"];
            let files = folders
                .into_iter()
                .flat_map(|folder| (0..1500).map(move |n| format!("t/{folder}/{:02}/{n:05}", n % 40)));
            files.chain((0..1500).map(|n| format!("t/{n:05}.csv"))).chain([
                "t/a/".to_string(),
                "t/b/".to_string(),
                "t2/x".to_string(),
            ])
        };
        listed(awkward(), "t", None).await;
        listed(awkward(), "", None).await;
        listed(awkward(), "t", Some("t/a-1/11/00811")).await;
        listed(awkward(), "t/a", Some("t/a/07")).await;
    }
}
