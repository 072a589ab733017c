//! Every committed input and some changes of each, the same ones in every run.

use super::*;
use koine_base::rng::Rng;

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

/// Changed inputs per target.
const CHANGED: u64 = 400;

fn check(name: &str) {
    let target = find(name).expect("a target of that name");
    let inputs = corpus::inputs(name);
    inputs.iter().for_each(|input| target.check(input));
    let mut rng = Rng::new(name.len() as u64 * 7919);
    for _ in 0..CHANGED {
        let chosen = rng.below(inputs.len() as u64) as usize;
        target.check(&mutate::mutate(&inputs[chosen], &inputs, &mut rng));
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        #[test]
        fn every_target_has_its_test() {
            let tested = [$(stringify!($name)),*];
            let named: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(tested[..], named[..]);
        }
    };
}

targets! {
    kafka_bytes kafka_split kafka_session
    amqp_bytes amqp_split amqp_codec amqp_session
    mqtt_bytes mqtt_split mqtt_codec mqtt_session
    batch gzip snappy lz4 zstd
    filters headers patterns scram metadata peer_mail content store
}

#[test]
fn memory_is_counted() {
    let counted = std::panic::catch_unwind(|| {
        allocator::measured(10, 1000, 1, || vec![0u8; 1100].len());
    });
    assert!(counted.is_err(), "1100 bytes where 1010 are allowed");
    allocator::measured(10, 1000, 10, || drop(vec![0u8; 1050]));
}
