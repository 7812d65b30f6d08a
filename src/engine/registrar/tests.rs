use super::*;

fn native(shard: u16, count: u64, name: &str, weight: f64) -> Change {
    Change::Up {
        epoch: LinkEpoch::new(shard, count),
        sink: Sink::Native,
        home: shard,
        name: name.into(),
        weight,
    }
}

#[test]
fn a_native_analyzer_is_one_entry_however_many_links_it_has() {
    let mut registrar = Registrar::default();
    registrar.apply(native(0, 1, "a", 0.5));
    let roster = registrar
        .apply(native(1, 1, "a", 0.5))
        .expect("a new table");
    assert_eq!((roster.epoch, roster.entries.len()), (2, 1));
    let roster = registrar.apply(Change::Down {
        epoch: LinkEpoch::new(0, 1),
    });
    assert_eq!(
        roster.expect("a new table").entries.len(),
        1,
        "one link is left"
    );
    let roster = registrar.apply(Change::Down {
        epoch: LinkEpoch::new(1, 1),
    });
    assert!(roster.expect("a new table").entries.is_empty());
}

#[test]
fn analyzers_are_told_apart() {
    let mut registrar = Registrar::default();
    let single = |count: u64, name: &str| Change::Up {
        epoch: LinkEpoch::new(0, count),
        sink: Sink::Compact,
        home: 0,
        name: name.into(),
        weight: 2.0,
    };
    for change in [
        native(0, 1, "a", 0.5),
        native(0, 2, "b", 0.25),
        single(3, "a"),
        single(4, "a"),
        native(1, 1, "a", 0.75),
    ] {
        assert!(registrar.apply(change).is_some());
    }
    let listed = |roster: &Roster| {
        let entries = roster.entries.iter();
        entries
            .map(|entry| (entry.analyzer, entry.effective_weight()))
            .collect::<Vec<_>>()
    };
    let expected = [(0, 0.75), (1, 0.25), (2, 2.0), (3, 2.0)];
    assert_eq!(listed(&registrar.roster), expected);

    let drain = Change::Drain {
        epoch: LinkEpoch::new(0, 1),
    };
    let roster = registrar.apply(drain).expect("changed");
    assert_eq!(listed(&roster)[..2], [(0, 0.0), (1, 0.25)]);
    let roster = registrar.apply(native(2, 1, "a", 0.5)).expect("changed");
    assert_eq!(listed(&roster)[0], (0, 0.0), "a link more of who drains");
    let resume = Order::Resume { name: "a".into() };
    let roster = order(&mut registrar, resume).expect("changed");
    assert_eq!(listed(&roster)[0], (0, 0.5));
    let down = |count: u64| Change::Down {
        epoch: LinkEpoch::new(0, count),
    };
    let roster = registrar.apply(down(3)).expect("changed");
    assert_eq!(listed(&roster), [(0, 0.5), (1, 0.25), (3, 2.0)]);
    let roster = registrar.apply(down(1)).expect("changed");
    assert_eq!(listed(&roster).len(), 3, "it has links on other shards");
}

#[test]
fn many_that_go_at_once_leave_one_table() {
    let mut registrar = Registrar::default();
    for count in 1..=100_u64 {
        registrar.apply(native(0, count, &format!("a{count}"), 1.0));
    }
    let epoch = registrar.epoch();
    let down = |count| Change::Down {
        epoch: LinkEpoch::new(0, count),
    };
    assert!((1..=99).all(|count| registrar.take(down(count))));
    assert!(!registrar.take(down(5)), "it was gone");
    // One that was restarted in the same turn is another one.
    assert!(registrar.take(native(0, 101, "a7", 2.0)));
    let roster = registrar.next_roster();
    assert_eq!(roster.epoch, epoch + 1);
    let left = roster.entries.iter();
    let left: Vec<_> = left.map(|entry| (&*entry.name, entry.weight)).collect();
    assert_eq!(left, [("a100", 1.0), ("a7", 2.0)]);
}

fn order(registrar: &mut Registrar, order: Order) -> Option<Arc<Roster>> {
    registrar.order(order).expect("it can be done")
}

fn http_up(registrar: &mut Registrar, generation: u64) -> Arc<Roster> {
    let (name, weight) = ("h".into(), 1.0);
    let up = Order::HttpUp {
        name,
        sink: weir_sink::Sink::Http,
        weight,
        generation,
    };
    order(registrar, up).expect("changed")
}

#[test]
fn the_operators_word_outlives_an_analyzer_over_http() {
    let mut registrar = Registrar::default();
    let name: Arc<str> = "h".into();
    http_up(&mut registrar, 1);
    let set = |weight, pin| Order::Weight {
        name: "h".into(),
        weight,
        pin,
    };
    order(&mut registrar, set(5.0, true));
    order(&mut registrar, Order::Drain { name: "h".into() });
    let gone = registrar.apply(Change::HttpDown { generation: 1 });
    assert!(gone.expect("changed").entries.is_empty());
    let roster = http_up(&mut registrar, 2);
    let seen = |roster: &Roster| {
        let entry = &roster.entries[0];
        (entry.weight, entry.pinned, entry.draining)
    };
    assert_eq!(seen(&roster), (5.0, true, true));
    // A weight without a pin moves the pin; what the configuration says waits.
    let roster = order(&mut registrar, set(6.0, false)).expect("changed");
    assert_eq!(seen(&roster), (6.0, true, true));
    let own = Order::OwnWeight {
        name: "h".into(),
        weight: 7.0,
    };
    assert_eq!(order(&mut registrar, own), None);
    registrar.apply(Change::HttpDown { generation: 2 });
    // Resumed while it is away.
    let resume = Order::Resume { name: "h".into() };
    assert_eq!(order(&mut registrar, resume.clone()), None);
    assert_eq!(seen(&http_up(&mut registrar, 3)), (6.0, true, false));
    let roster = order(&mut registrar, Order::Unpin { name }).expect("changed");
    assert_eq!(seen(&roster), (1.0, false, false), "as it came back");
    registrar.apply(Change::HttpDown { generation: 3 });
    let unknown = OrderError::Unknown { name: "h".into() };
    assert_eq!(registrar.order(resume), Err(unknown));
}

#[test]
fn an_analyzer_over_http_has_one_entry() {
    let mut registrar = Registrar::default();
    http_up(&mut registrar, 1);
    // The order that took it out has got lost.
    let roster = http_up(&mut registrar, 2);
    let reaches: Vec<_> = roster.entries.iter().map(|entry| &entry.reach).collect();
    assert_eq!(reaches, [&Reach::Http { generation: 2 }]);
    assert_eq!(registrar.apply(Change::HttpDown { generation: 1 }), None);
    let eject = Order::Eject { name: "h".into() };
    let roster = order(&mut registrar, eject).expect("changed");
    assert!(roster.entries.is_empty());
}

#[test]
fn orders_that_cannot_be_done_change_nothing() {
    let mut registrar = Registrar::default();
    registrar.apply(native(0, 1, "a", 0.5));
    let epoch = registrar.epoch();
    for weight in [-1.0, f64::NAN, f64::INFINITY] {
        for order in [
            Order::Weight {
                name: "a".into(),
                weight,
                pin: true,
            },
            Order::OwnWeight {
                name: "a".into(),
                weight,
            },
        ] {
            let refused = registrar.order(order);
            assert!(matches!(refused, Err(OrderError::BadWeight { .. })));
        }
    }
    let unknown = registrar.order(Order::Drain { name: "b".into() });
    assert!(matches!(unknown, Err(OrderError::Unknown { .. })));
    assert_eq!(registrar.epoch(), epoch);
    // A native analyzer that was ejected may come back.
    let eject = Order::Eject { name: "a".into() };
    let roster = order(&mut registrar, eject).expect("changed");
    assert_eq!(roster.entries[0].effective_weight(), 0.0);
    let roster = registrar.apply(native(1, 1, "a", 0.5)).expect("changed");
    assert_eq!(roster.entries[0].effective_weight(), 0.0, "not by a link");
    for (shard, count) in [(0, 1), (1, 1)] {
        let epoch = LinkEpoch::new(shard, count);
        registrar.apply(Change::Down { epoch });
    }
    let roster = registrar.apply(native(0, 2, "a", 0.5)).expect("changed");
    assert_eq!(roster.entries[0].effective_weight(), 0.5);
}

#[test]
fn the_operators_drain_outlives_links_and_lives() {
    let mut registrar = Registrar::default();
    let single = |count| Change::Up {
        epoch: LinkEpoch::new(0, count),
        sink: Sink::Compact,
        home: 0,
        name: "s".into(),
        weight: 1.0,
    };
    registrar.apply(native(0, 1, "a", 0.5));
    registrar.apply(native(1, 1, "a", 0.5));
    registrar.apply(single(7));
    for name in ["a", "s"] {
        order(&mut registrar, Order::Drain { name: name.into() });
    }
    let draining = |roster: &Roster| {
        let entries = roster.entries.iter();
        entries.map(|entry| entry.draining).collect::<Vec<_>>()
    };
    let down = |shard, count| Change::Down {
        epoch: LinkEpoch::new(shard, count),
    };
    registrar.apply(down(1, 1));
    let roster = registrar.apply(native(1, 2, "a", 0.5)).expect("changed");
    assert_eq!(draining(&roster), [true, true], "one link came back");
    for (shard, count) in [(0, 1), (1, 2), (0, 7)] {
        registrar.apply(down(shard, count));
    }
    assert_eq!(registrar.kept(), (0, 2), "of analyzers that are away");
    registrar.apply(native(0, 3, "a", 0.5));
    let roster = registrar.apply(single(8)).expect("changed");
    assert_eq!(draining(&roster), [true, true], "restarted");
    let resume = Order::Resume { name: "a".into() };
    let roster = order(&mut registrar, resume).expect("changed");
    assert_eq!(draining(&roster), [false, true]);
    assert_eq!(registrar.kept(), (0, 1));
}

#[test]
fn the_last_word_of_an_old_life_does_not_bind_the_new_one() {
    let mut registrar = Registrar::default();
    registrar.apply(native(0, 1, "a", 0.5));
    // It was restarted; of its old life a shard that is late has this to tell.
    registrar.apply(native(1, 1, "a", 0.5));
    let old = LinkEpoch::new(0, 1);
    registrar.apply(Change::Drain { epoch: old });
    let roster = registrar.apply(Change::Down { epoch: old });
    assert!(!roster.expect("changed").entries[0].draining);
}

#[test]
fn an_analyzers_own_drain_ends_with_the_links_that_it_had() {
    let mut registrar = Registrar::default();
    let down = |shard, count| Change::Down {
        epoch: LinkEpoch::new(shard, count),
    };
    let is_draining = |roster: Option<Arc<Roster>>| {
        let roster = roster.expect("changed");
        roster.entries[0].draining
    };
    registrar.apply(native(0, 1, "a", 0.5));
    registrar.apply(native(1, 1, "a", 0.5));
    let epoch = LinkEpoch::new(0, 1);
    assert!(is_draining(registrar.apply(Change::Drain { epoch })));
    registrar.apply(down(1, 1));
    assert!(is_draining(registrar.apply(native(1, 2, "a", 0.5))));
    // The last link of those that it had then: what is left is a new life.
    assert!(!is_draining(registrar.apply(down(0, 1))));
    let epoch = LinkEpoch::new(1, 2);
    assert!(is_draining(registrar.apply(Change::Drain { epoch })));
    registrar.apply(down(1, 2));
    assert!(!is_draining(registrar.apply(native(0, 2, "a", 0.5))));
    assert!(registrar.own_drains.is_empty());
}

#[test]
#[cfg_attr(miri, ignore = "as many as there may be take Miri an hour")]
fn as_many_drains_as_are_kept() {
    let mut registrar = Registrar::default();
    for n in 0..=KEPT_MAX as u64 {
        registrar.apply(native(0, n + 1, &n.to_string(), 1.0));
        let name: Arc<str> = n.to_string().into();
        let refused = registrar.order(Order::Drain { name }).err();
        let is_last = n == KEPT_MAX as u64;
        assert_eq!(refused, is_last.then_some(OrderError::TooManyDrains));
        registrar.apply(Change::Down {
            epoch: LinkEpoch::new(0, n + 1),
        });
    }
    assert_eq!(registrar.kept(), (0, KEPT_MAX));
}

#[test]
fn weights_and_drains_change_the_table_once() {
    let mut registrar = Registrar::default();
    let epoch = LinkEpoch::new(2, 7);
    registrar.apply(Change::Up {
        epoch,
        sink: Sink::Typed,
        home: 2,
        name: "1.2.3.4:5".into(),
        weight: 1.0,
    });
    let roster = registrar
        .apply(Change::Weight {
            epoch,
            weight: 0.25,
        })
        .expect("changed");
    assert_eq!(roster.entries[0].effective_weight(), 0.25);
    assert_eq!(
        registrar.apply(Change::Weight {
            epoch,
            weight: 0.25
        }),
        None
    );
    let roster = registrar.apply(Change::Drain { epoch }).expect("changed");
    assert_eq!(roster.entries[0].effective_weight(), 0.0);
    assert_eq!(registrar.apply(Change::Drain { epoch }), None);
    let unknown = LinkEpoch::new(3, 1);
    assert_eq!(
        registrar.apply(Change::Weight {
            epoch: unknown,
            weight: 1.0
        }),
        None
    );
    assert_eq!(registrar.apply(Change::Down { epoch: unknown }), None);
}

fn wanted(list: &[(&str, f64, bool)]) -> Order {
    let one = |&(name, weight, pin): &(&str, f64, bool)| Wanted {
        name: name.into(),
        weight,
        pin,
    };
    let table = list.iter().map(one).collect();
    Order::Wanted { table }
}

/// Weight and pin of each entry.
fn held(registrar: &Registrar) -> Vec<(f64, bool)> {
    let entries = registrar.roster.entries.iter();
    entries.map(|entry| (entry.weight, entry.pinned)).collect()
}

fn says(shard: u16, count: u64, weight: f64) -> Change {
    let epoch = LinkEpoch::new(shard, count);
    Change::Weight { epoch, weight }
}

#[test]
fn a_wanted_weight_counts_in_place_of_what_an_analyzer_comes_with() {
    let mut registrar = Registrar::default();
    registrar.apply(native(0, 1, "a", 0.5));
    registrar.apply(native(0, 2, "b", 0.5));
    let table = wanted(&[("a", 0.2, false), ("b", 0.3, true), ("c", 0.4, false)]);
    let roster = order(&mut registrar, table.clone()).expect("one table for all");
    assert_eq!(roster.epoch, 3);
    assert_eq!(held(&registrar), [(0.2, false), (0.3, true)]);
    assert_eq!(order(&mut registrar, table), None, "the same again");
    // It was wanted before it was there; links that come later say nothing new.
    registrar.apply(native(0, 3, "c", 0.5));
    registrar.apply(native(1, 1, "a", 0.5));
    registrar.apply(native(1, 2, "b", 0.5));
    assert_eq!(held(&registrar), [(0.2, false), (0.3, true), (0.4, false)]);
    // What they say while they are there counts, unless it is pinned.
    registrar.apply(says(0, 1, 0.7));
    registrar.apply(says(0, 2, 0.8));
    assert_eq!(held(&registrar), [(0.7, false), (0.3, true), (0.4, false)]);
    // No more is wanted: their own words count, the last ones.
    order(&mut registrar, wanted(&[])).expect("changed");
    assert_eq!(held(&registrar), [(0.7, false), (0.8, false), (0.5, false)]);
    assert!(registrar.own_weights.is_empty());
}

#[test]
fn the_operators_pin_goes_before_the_file_and_the_file_before_the_analyzer() {
    let mut registrar = Registrar::new(&[Wanted {
        name: "a".into(),
        weight: 0.2,
        pin: true,
    }]);
    registrar.apply(native(0, 1, "a", 0.5));
    assert_eq!(held(&registrar), [(0.2, true)]);
    let set = |weight, pin| Order::Weight {
        name: "a".into(),
        weight,
        pin,
    };
    // An order without a pin holds until the file says something else of this analyzer.
    order(&mut registrar, set(0.9, false)).expect("changed");
    registrar.apply(says(0, 1, 0.6));
    order(
        &mut registrar,
        wanted(&[("a", 0.2, true), ("b", 1.0, false)]),
    );
    assert_eq!(held(&registrar), [(0.9, true)], "of another analyzer");
    order(&mut registrar, wanted(&[("a", 0.3, true)])).expect("changed");
    assert_eq!(held(&registrar), [(0.3, true)]);
    // One with a pin holds against the file too.
    order(&mut registrar, set(0.8, true)).expect("changed");
    assert_eq!(order(&mut registrar, wanted(&[("a", 0.1, true)])), None);
    assert_eq!(held(&registrar), [(0.8, true)]);
    // It comes back to that, and without the pin to the file.
    let epoch = LinkEpoch::new(0, 1);
    registrar.apply(Change::Down { epoch });
    registrar.apply(native(0, 2, "a", 0.5));
    assert_eq!(held(&registrar), [(0.8, true)]);
    let name: Arc<str> = "a".into();
    order(&mut registrar, Order::Unpin { name }).expect("changed");
    assert_eq!(held(&registrar), [(0.1, true)]);
    order(&mut registrar, wanted(&[])).expect("changed");
    assert_eq!(held(&registrar), [(0.5, false)]);
}

#[test]
fn of_an_analyzer_over_http_the_table_pins_only() {
    let mut registrar = Registrar::default();
    http_up(&mut registrar, 1);
    // Its health check brings it up with what is wanted, and may do so slowly.
    assert_eq!(order(&mut registrar, wanted(&[("h", 0.2, false)])), None);
    assert_eq!(held(&registrar), [(1.0, false)]);
    order(&mut registrar, wanted(&[("h", 0.2, true)])).expect("changed");
    assert_eq!(held(&registrar), [(0.2, true)]);
    registrar.apply(Change::HttpDown { generation: 1 });
    http_up(&mut registrar, 2);
    assert_eq!(held(&registrar), [(0.2, true)]);
    let name: Arc<str> = "h".into();
    let own = Order::OwnWeight { name, weight: 0.6 };
    assert_eq!(order(&mut registrar, own), None);
    order(&mut registrar, wanted(&[("h", 0.2, false)])).expect("changed");
    assert_eq!(held(&registrar), [(0.6, false)]);
}

#[test]
#[cfg_attr(miri, ignore = "as many as there may be take Miri an hour")]
fn as_many_weights_as_may_be_wanted() {
    let name = |n: usize| -> Arc<str> { n.to_string().into() };
    let one = |n: usize| Wanted {
        name: name(n),
        weight: 1.0,
        pin: true,
    };
    let table: Vec<Wanted> = (0..=WANTED_MAX).map(one).collect();
    assert_eq!(Registrar::new(&table).wanted.len(), WANTED_MAX);
}

#[test]
fn analyzers_over_http_beyond_the_room_are_refused_by_name() {
    let mut registrar = Registrar::default();
    registrar.limit(2, "the arena serves no more (--arena)");
    let up = |registrar: &mut Registrar, name: &str, generation| {
        registrar.order(Order::HttpUp {
            name: name.into(),
            sink: weir_sink::Sink::Http,
            weight: 1.0,
            generation,
        })
    };
    for (name, generation) in [("a", 1), ("b", 2)] {
        assert!(up(&mut registrar, name, generation).is_ok());
    }
    let error = up(&mut registrar, "c", 3).expect_err("full").to_string();
    assert_eq!(
        error,
        "2 analyzers are connected, the arena serves no more (--arena)"
    );
    // One that is there comes again under another number; one that goes makes room.
    assert!(up(&mut registrar, "b", 4).is_ok());
    let down = Order::HttpDown { generation: 1 };
    assert!(registrar.order(down).is_ok());
    assert!(up(&mut registrar, "c", 5).is_ok());
}
