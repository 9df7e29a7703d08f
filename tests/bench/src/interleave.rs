//! Contestants that take turns: A B A B, never A A B B.

use anyhow::Result;

/// One who is measured; each call is one measurement of `N` figures.
pub type Contestant<'a, const N: usize> = Box<dyn FnMut() -> Result<[f64; N]> + 'a>;

/// Lets each contestant run once a round, and every other round in the opposite order, so that
/// nobody always follows the same one. Returns for each contestant its figures, one of a round.
///
/// # Errors
/// The first of a contestant.
pub fn interleave<const N: usize>(
    rounds: usize,
    contestants: &mut [Contestant<'_, N>],
) -> Result<Vec<[Vec<f64>; N]>> {
    let mut all: Vec<[Vec<f64>; N]> =
        contestants.iter().map(|_| std::array::from_fn(|_| Vec::with_capacity(rounds))).collect();
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            for (figures, figure) in all[index].iter_mut().zip(contestants[index]()?) {
                figures.push(figure);
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn contestants_take_turns() {
        let order = RefCell::new(String::new());
        let contestant = |name: char, figure: f64| -> Contestant<'_, 1> {
            let order = &order;
            Box::new(move || {
                order.borrow_mut().push(name);
                Ok([figure])
            })
        };
        let all = interleave(3, &mut [contestant('a', 1.0), contestant('b', 2.0)]).unwrap();
        assert_eq!(*order.borrow(), "abbaab");
        assert_eq!(all, [[vec![1.0; 3]], [vec![2.0; 3]]]);
    }
}
