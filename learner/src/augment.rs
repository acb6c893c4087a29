//! Random shifts of images (Kostrikov et al. 2021; HIL-SERL `batched_random_crop`): pad by
//! repeating the edge, crop back at an offset.

use hilt_protocol::noise::Uniforms;
use tch::{Device, Kind, Tensor};

/// HIL-SERL's padding: images are shifted by up to so many pixels.
pub const PADDING_PX: i64 = 4;

/// The different shifts that a padding allows, none included.
pub const fn shifts(padding: i64) -> i64 {
    (2 * padding + 1) * (2 * padding + 1)
}

/// Shifts each image by its own offset. `images` \[N, H, W, 3\], `offsets_yx` i64 \[N, 2\] in
/// 0..=2·`padding` (`padding` itself is no shift).
pub fn shift(images: &Tensor, offsets_yx: &Tensor, padding: i64) -> Tensor {
    let size = images.size();
    let [n, h, w, c] = size[..] else {
        panic!("images must be [N, H, W, C], not {size:?}")
    };
    let device = images.device();
    let axis = |column: i64, length: i64| {
        let offset = offsets_yx.to_device(device).select(1, column).unsqueeze(1) - padding;
        let places = Tensor::arange(length, (Kind::Int64, device)).unsqueeze(0) + offset;
        // Clamping the source place is what padding with the edge and cropping comes to.
        places.clamp(0, length - 1)
    };
    let rows = axis(0, h).view([n, h, 1, 1]).expand([n, h, w, c], false);
    let columns = axis(1, w).view([n, 1, w, 1]).expand([n, h, w, c], false);
    images.gather(1, &rows, false).gather(2, &columns, false)
}

/// Offsets for [`shift`] from torch's generator.
pub fn draw_offsets(images: i64, padding: i64, device: Device) -> Tensor {
    Tensor::randint(2 * padding + 1, [images, 2], (Kind::Int64, device))
}

/// Offsets for [`shift`] from a seeded stream: the same on any device.
pub fn seeded_offsets(images: i64, padding: i64, random: &mut Uniforms) -> Tensor {
    let side = 2 * padding as u64 + 1;
    let offsets: Vec<i64> = (0..2 * images).map(|_| random.below(side) as i64).collect();
    Tensor::from_slice(&offsets).view([images, 2])
}

/// Offsets \[`copies`, 2\] of a frame's copies, no two the same: the first is no shift, the others are
/// drawn. Panics where there are not as many [`shifts`].
pub fn copies_offsets(copies: usize, padding: i64, random: &mut Uniforms) -> Tensor {
    let side = 2 * padding + 1;
    let mut places: Vec<i64> = (0..shifts(padding)).collect();
    let none = places.len() / 2;
    places.swap(0, none);
    for i in 1..copies {
        let j = i + random.below((places.len() - i) as u64) as usize;
        places.swap(i, j);
    }
    let offsets = places[..copies].iter().map(|p| [p / side, p % side]);
    Tensor::from_slice(&offsets.flatten().collect::<Vec<_>>()).view([-1, 2])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_middle_offset_changes_nothing_and_all_offsets_are_drawn() {
        let images = Tensor::randint(256, [3, 6, 5, 3], (Kind::Uint8, Device::Cpu));
        let middle = Tensor::full([3, 2], 4, (Kind::Int64, Device::Cpu));
        assert_eq!(shift(&images, &middle, 4), images);
        let offsets = draw_offsets(2000, 4, Device::Cpu);
        assert_eq!(
            (
                offsets.min().int64_value(&[]),
                offsets.max().int64_value(&[])
            ),
            (0, 8)
        );
    }

    fn pairs(offsets: &Tensor) -> Vec<[i64; 2]> {
        let numbers = Vec::<i64>::try_from(offsets.flatten(0, 1)).unwrap();
        numbers.chunks(2).map(|yx| [yx[0], yx[1]]).collect()
    }

    #[test]
    fn seeded_offsets_are_every_shift_and_depend_on_the_seed_alone() {
        let draw = |seed| pairs(&seeded_offsets(2000, 4, &mut Uniforms::new(seed)));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let all: BTreeSet<_> = draw(1).into_iter().collect();
        assert_eq!(all.len() as i64, shifts(4));
        assert!(all.iter().flatten().all(|place| (0..=8).contains(place)));
    }

    #[test]
    fn copies_are_the_frame_itself_and_shifts_that_differ() {
        for copies in [1, 2, 7, 81] {
            let offsets = pairs(&copies_offsets(copies, 4, &mut Uniforms::new(3)));
            assert_eq!((offsets.len(), offsets[0]), (copies, [4, 4]));
            let different: BTreeSet<_> = offsets.iter().collect();
            assert_eq!(different.len(), copies);
            assert!(
                offsets
                    .iter()
                    .flatten()
                    .all(|place| (0..=8).contains(place))
            );
        }
        let second = |seed| pairs(&copies_offsets(2, 4, &mut Uniforms::new(seed)))[1];
        let seen: BTreeSet<_> = (0..2000).map(second).collect();
        assert_eq!(seen.len() as i64, shifts(4) - 1);
    }
}
