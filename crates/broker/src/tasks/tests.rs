//! The task centre on its queue in memory, with a clock that stands still until everybody waits.

use std::collections::{BTreeSet, HashMap};

use super::*;

fn centre(attempts: u32) -> TaskCentre {
    TaskCentre::in_memory(TaskOptions {
        attempts,
        ..TaskOptions::default()
    })
}

fn task(name: &str, kind: i64) -> Task {
    let name = name.to_owned();
    Task { name, kind }
}

impl TaskCentre {
    async fn put(&self, name: &str, kind: i64) -> String {
        self.submit(task(name, kind)).await.unwrap()
    }

    fn worker(&self, id: &str, types: &[i64], capacity: u32) -> Worker {
        let types: BTreeSet<i64> = types.iter().copied().collect();
        self.join_worker(Registration {
            types: (!types.is_empty()).then_some(types),
            capacity,
            ..Registration::new(id, Door::TaskHub)
        })
        .unwrap()
    }
}

impl Worker {
    /// The next task within a time in which everything has come that comes at once.
    async fn gets(&mut self) -> Option<Assignment> {
        let soon = timeout(Duration::from_millis(1), self.next()).await;
        soon.ok().flatten()
    }

    async fn gets_one(&mut self) -> Assignment {
        self.gets().await.expect("a task")
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_goes_to_one_worker_and_is_done_when_that_says_so() {
    let centre = centre(5);
    let mut worker = centre.worker("a", &[], 1);
    let id = centre.put("Demo", 1).await;
    let assignment = worker.gets_one().await;
    assert_eq!((&*assignment.id, assignment.attempt), (id.as_str(), 1));
    assert_eq!(*assignment.task, task("Demo", 1));

    let status = centre.status().await;
    assert_eq!((status.running.len(), status.done), (1, 0));
    worker.answers().done(&id).unwrap();
    let status = centre.status().await;
    assert_eq!((status.running.len(), status.done), (0, 1));
    assert_eq!((status.waiting, status.dead), (Some(0), Some(0)));
    assert_eq!(worker.answers().done(&id), Err(Refusal::NotYours));
}

#[tokio::test(start_paused = true)]
async fn tasks_wait_in_the_queue_until_there_is_a_worker() {
    let centre = centre(1);
    for number in 0..3 {
        centre.put(&number.to_string(), 1).await;
    }
    sleep(Duration::from_hours(1)).await;
    assert_eq!(centre.status().await.waiting, Some(3));
    let mut worker = centre.worker("a", &[], 2);
    for expected in ["0", "1"] {
        assert_eq!(worker.gets_one().await.task.name, expected);
    }
    assert!(worker.gets().await.is_none(), "it has no room");
    assert_eq!(centre.status().await.waiting, Some(1));
}

#[tokio::test(start_paused = true)]
async fn the_least_loaded_worker_gets_the_task_and_nobody_gets_more_than_it_can_have() {
    let centre = centre(5);
    let mut large = centre.worker("large", &[], 4);
    let mut small = centre.worker("small", &[], 2);
    for number in 0..10 {
        centre.put(&number.to_string(), 1).await;
    }
    let mut given = HashMap::new();
    for (name, worker) in [("large", &mut large), ("small", &mut small)] {
        while worker.gets().await.is_some() {
            *given.entry(name).or_insert(0) += 1;
        }
    }
    assert_eq!(given, HashMap::from([("large", 4), ("small", 2)]));
    let status = centre.status().await;
    assert_eq!(status.waiting, Some(4));
    assert_eq!(status.workers[0].running, 4);
}

#[tokio::test(start_paused = true)]
async fn among_equals_chance_decides() {
    let centre = centre(5);
    let mut workers: Vec<_> = ["a", "b", "c", "d"]
        .map(|id| centre.worker(id, &[], 1))
        .into();
    let mut had = [0; 4];
    for _ in 0..400 {
        let id = centre.put("x", 1).await;
        for (worker, had) in workers.iter_mut().zip(&mut had) {
            if worker.gets().await.is_some() {
                *had += 1;
                worker.answers().done(&id).unwrap();
            }
        }
    }
    assert_eq!(had.iter().sum::<u32>(), 400);
    // 100 each, and a deviation of nine.
    assert!(had.iter().all(|had| (40..160).contains(had)), "{had:?}");
}

#[tokio::test(start_paused = true)]
async fn a_task_goes_only_to_workers_that_can_do_its_type() {
    let centre = centre(5);
    let mut ones = centre.worker("ones", &[1], 5);
    let mut twos = centre.worker("twos", &[2, 3], 1);
    let first = centre.put("first", 2).await;
    centre.put("second", 3).await;
    assert_eq!(&*twos.gets_one().await.id, first);
    assert!(twos.gets().await.is_none());
    twos.answers().done(&first).unwrap();
    assert_eq!(twos.gets_one().await.task.name, "second");
    assert!(ones.gets().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_do_waits_and_is_given_up_after_so_many_attempts() {
    let centre = centre(3);
    let mut worker = centre.worker("a", &[1], 1);
    let id = centre.put("Odd", 7).await;
    let start = Instant::now();
    let given_up = loop {
        let dead = centre.dead(10).await.unwrap();
        if let [dead] = &dead[..] {
            break dead.clone();
        }
        sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(start.elapsed().as_secs(), 10, "two pauses");
    assert_eq!((given_up.id, given_up.attempts), (id, 3));
    assert_eq!(given_up.reason, "no worker does tasks of type 7");
    assert_eq!(given_up.task, r#"{"TaskName":"Odd","TaskType":7}"#);
    assert!(worker.gets().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn of_a_task_that_was_given_up_the_beginning_is_shown() {
    let centre = centre(1);
    let mut worker = centre.worker("a", &[], 1);
    for name in ["x".repeat(60_000), "\u{1}".repeat(60_000), "ä".repeat(600)] {
        let id = centre.put(&name, 1).await;
        worker.gets_one().await;
        let reason = Reason::new("no");
        worker.answers().refuse(&id, &reason).unwrap();
        let dead = centre.dead(10).await.unwrap().pop().unwrap();
        let whole = serde_json::to_string(&task(&name, 1)).unwrap();
        assert!(whole.starts_with(&dead.task), "{}", dead.task);
        assert!((999..=1000).contains(&dead.task.len()), "{}", dead.task);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_comes_again_later_and_is_given_up_with_the_last_reason() {
    let centre = centre(2);
    let mut worker = centre.worker("a", &[], 1);
    let id = centre.put("Hard", 1).await;
    let refuse = |worker: &Worker, why| worker.answers().refuse(&id, &Reason::new(why));
    assert_eq!(worker.gets_one().await.attempt, 1);
    refuse(&worker, "not now").unwrap();
    assert!(worker.gets().await.is_none());
    sleep(Duration::from_secs(5)).await;
    assert_eq!(worker.gets_one().await.attempt, 2);
    refuse(&worker, "never").unwrap();
    let dead = centre.dead(10).await.unwrap();
    assert_eq!(dead[0].reason, "refused: never");
    assert_eq!(refuse(&worker, "at all"), Err(Refusal::NotYours));

    // And from the beginning.
    assert_eq!(
        centre.retry(Some("another".into())).await.unwrap().retried,
        0
    );
    assert_eq!(centre.retry(None).await.unwrap().retried, 1);
    assert_eq!(worker.gets_one().await.attempt, 1);
    assert_eq!(centre.status().await.dead, Some(0));
}

#[tokio::test(start_paused = true)]
async fn the_tasks_of_a_worker_that_goes_are_given_to_others_at_once() {
    let centre = centre(5);
    let mut first = centre.worker("first", &[], 2);
    let (a, b) = (centre.put("a", 1).await, centre.put("b", 1).await);
    assert_eq!(&*first.gets_one().await.id, a);
    assert_eq!(&*first.gets_one().await.id, b);
    let mut second = centre.worker("second", &[], 2);
    let answers = first.answers().clone();
    drop(first);
    for id in [&a, &b] {
        let assignment = second.gets_one().await;
        assert_eq!((&*assignment.id, assignment.attempt), (id.as_str(), 2));
    }
    assert_eq!(answers.done(&a), Err(Refusal::Replaced));
    second.answers().done(&a).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_with_a_task_too_often_is_the_end_of_the_task() {
    let centre = centre(2);
    centre.put("Poison", 1).await;
    for _ in 0..2 {
        let mut worker = centre.worker("a", &[], 1);
        worker.gets_one().await;
        drop(worker);
        sleep(Duration::from_secs(6)).await;
    }
    let dead = centre.dead(10).await.unwrap();
    assert_eq!(dead[0].reason, "worker a went away");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_over_gives_the_task_to_another_and_refuses_the_late_answer() {
    let centre = centre(5);
    let mut slow = centre.worker("slow", &[], 1);
    let id = centre.put("Long", 1).await;
    slow.gets_one().await;
    let mut quick = centre.worker("quick", &[], 1);
    sleep(Duration::from_secs(59)).await;
    assert!(quick.gets().await.is_none());
    sleep(Duration::from_millis(1_300)).await;
    assert_eq!(quick.gets_one().await.attempt, 2);
    assert_eq!(
        slow.answers().progress(&id, "50 %"),
        Err(Refusal::LeaseOver)
    );
    // It may still be busy with it, and so gets nothing else.
    let other = centre.put("Other", 1).await;
    assert!(slow.gets().await.is_none());
    assert_eq!(slow.answers().done(&id), Err(Refusal::LeaseOver));
    assert_eq!(&*slow.gets_one().await.id, other);
    quick.answers().done(&id).unwrap();
    assert_eq!(centre.status().await.done, 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_makes_room_for_what_waits() {
    let centre = centre(5);
    let mut slow = centre.worker("slow", &[], 2);
    let first = centre.put("first", 1).await;
    let second = centre.put("second", 1).await;
    for id in [&first, &second] {
        assert_eq!(&*slow.gets_one().await.id, id);
    }
    let mut quick = centre.worker("quick", &[], 1);
    for _ in 0..2 {
        sleep(Duration::from_secs(31)).await;
        slow.answers().progress(&second, "still at it").unwrap();
    }
    assert_eq!(&*quick.gets_one().await.id, first);
    let third = centre.put("third", 1).await;
    assert!(slow.gets().await.is_none());
    assert_eq!(slow.answers().done(&first), Err(Refusal::LeaseOver));
    assert_eq!(&*slow.gets_one().await.id, third);
}

#[tokio::test(start_paused = true)]
async fn progress_renews_the_lease() {
    let centre = centre(5);
    let mut worker = centre.worker("a", &[], 1);
    let mut other = centre.worker("b", &[2], 1);
    let id = centre.put("Long", 1).await;
    worker.gets_one().await;
    for percent in 0..10 {
        sleep(Duration::from_secs(50)).await;
        let text = format!("{percent} %");
        worker.answers().progress(&id, text).unwrap();
    }
    let status = centre.status().await;
    assert_eq!(status.running[0].seconds, 500);
    assert_eq!(status.running[0].progress, Some(Reason::new("9 %")));
    assert!(other.gets().await.is_none());
    worker.answers().done(&id).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_second_worker_with_the_same_id_takes_the_place_of_the_first() {
    let centre = centre(5);
    let mut first = centre.worker("a", &[], 1);
    let id = centre.put("Demo", 1).await;
    first.gets_one().await;
    let mut second = centre.worker(" a ", &[], 1);
    assert_eq!(first.next().await, None);
    let answers = first.answers().clone();
    assert_eq!(&*second.gets_one().await.id, id);
    assert_eq!(answers.done(&id), Err(Refusal::Replaced));
    drop(first);
    second.answers().done(&id).unwrap();
    assert_eq!(centre.status().await.workers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_only_busy_workers_can_do_is_in_nobody_elses_way() {
    let centre = centre(2);
    let mut ones = centre.worker("ones", &[1], 1);
    let mut twos = centre.worker("twos", &[2], 1);
    let first = centre.put("first", 1).await;
    for number in 0..100 {
        centre.put(&number.to_string(), 1).await;
    }
    centre.put("second", 2).await;
    ones.gets_one().await;
    assert_eq!(twos.gets_one().await.task.name, "second");
    assert_eq!(centre.status().await.waiting, Some(100));
    sleep(Duration::from_secs(40)).await;
    ones.answers().done(&first).unwrap();
    let next = ones.gets_one().await;
    assert_eq!((next.task.name.as_str(), next.attempt), ("0", 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_passed_over_is_looked_at_again_when_workers_come_and_go() {
    let centre = centre(1);
    let mut ones = centre.worker("ones", &[1], 1);
    let mut twos = centre.worker("twos", &[2], 9);
    let first = centre.put("first", 1).await;
    ones.gets_one().await;
    for number in 0..6 {
        centre.put(&number.to_string(), 1 + number % 2).await;
    }
    for expected in ["1", "3", "5"] {
        assert_eq!(twos.gets_one().await.task.name, expected);
    }
    let mut more = centre.worker("more", &[1], 1);
    assert_eq!(more.gets_one().await.task.name, "0");
    ones.answers().done(&first).unwrap();
    assert_eq!(ones.gets_one().await.task.name, "2");
    // What they have is lost with them, and what waits nobody can do.
    drop((ones, more));
    sleep(Duration::from_secs(1)).await;
    let dead = centre.dead(10).await.unwrap();
    let reasons: Vec<_> = dead.iter().map(|dead| dead.reason.as_str()).collect();
    let nobody = "no worker does tasks of type 1";
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons.contains(&nobody), "{reasons:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_hangs_over_is_given_up_though_the_worker_has_room() {
    let centre = centre(3);
    let mut hung = centre.worker("hung", &[], 2);
    centre.put("Long", 1).await;
    hung.gets_one().await;
    let mut given_up = Vec::new();
    while given_up.is_empty() {
        sleep(Duration::from_secs(1)).await;
        given_up = centre.dead(10).await.unwrap();
    }
    assert_eq!(given_up[0].attempts, 3);
    assert!(hung.gets().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_hangs_with_all_it_can_have_keeps_nothing_from_others() {
    let centre = centre(5);
    let mut hung = centre.worker("hung", &[], 1);
    let id = centre.put("Long", 1).await;
    hung.gets_one().await;
    sleep(Duration::from_mins(2)).await;
    // Nobody else is there: back into the queue, and no further attempt.
    assert_eq!(centre.status().await.waiting, Some(1));
    sleep(Duration::from_hours(1)).await;
    let mut other = centre.worker("other", &[], 1);
    let again = other.gets_one().await;
    assert_eq!((&*again.id, again.attempt), (id.as_str(), 2));
}

#[tokio::test(start_paused = true)]
async fn the_queue_in_memory_has_an_end() {
    let centre = centre(5);
    for _ in 0..10_000 {
        centre.put("x", 1).await;
    }
    let refused = centre.submit(task("x", 1)).await;
    assert_eq!(refused, Err(QueueError::Full));
    let mut worker = centre.worker("a", &[], 1);
    let first = worker.gets_one().await;
    worker.answers().done(&first.id).unwrap();
    centre.put("x", 1).await;
}

#[tokio::test(start_paused = true)]
async fn workers_together_can_have_no_more_than_the_server_can() {
    let centre = centre(5);
    let join = |id: String, capacity| {
        centre.join_worker(Registration {
            capacity,
            ..Registration::new(id, Door::Push)
        })
    };
    let mut workers: Vec<_> = (0..9)
        .map(|number| join(number.to_string(), 1000).unwrap())
        .collect();
    workers.push(join("last".into(), 990).unwrap());
    let refused = join("more".into(), 11).unwrap_err();
    assert!(refused.to_string().contains("10000 tasks"), "{refused}");
    // In the place of another, its capacity counts no more.
    workers.push(join("last".into(), 1000).unwrap());
    assert!(join("more".into(), 1).is_err());
    assert!(join("0".into(), 1000).is_ok(), "it has left again");
    drop(workers);
    let all: Result<Vec<_>, _> = (0..10_000).map(|id| join(id.to_string(), 1)).collect();
    assert!(join("more".into(), 1).is_err());
    drop(all.unwrap());
    assert_eq!(centre.status().await.worker_count, 0);
}

#[tokio::test(start_paused = true)]
async fn draining_gives_nothing_new_and_waits_for_what_is_being_done() {
    let centre = centre(5);
    let mut worker = centre.worker("a", &[], 2);
    let id = centre.put("Demo", 1).await;
    worker.gets_one().await;
    let draining = tokio::spawn({
        let centre = centre.clone();
        async move { centre.drain(Duration::from_secs(3)).await }
    });
    sleep(Duration::from_secs(1)).await;
    centre.put("late", 1).await;
    assert!(worker.gets().await.is_none());
    let refused = centre.join_worker(Registration::new("b", Door::Push));
    assert_eq!(refused.err(), Some(RegistrationError::Full));
    assert!(!draining.is_finished());
    worker.answers().done(&id).unwrap();
    assert_eq!(draining.await.unwrap(), 0);

    let start = Instant::now();
    let mut worker = self::centre(5).worker("a", &[], 1);
    drop(worker.gets().await);
    assert!(start.elapsed() < Duration::from_secs(1));
}
