//! Random shifts of images (Kostrikov et al. 2021; HIL-SERL `batched_random_crop`): pad by
//! repeating the edge, crop back at an offset.

use tch::Tensor;

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
        let places = Tensor::arange(length, (tch::Kind::Int64, device)).unsqueeze(0) + offset;
        // Clamping the source place is what padding with the edge and cropping comes to.
        places.clamp(0, length - 1)
    };
    let rows = axis(0, h).view([n, h, 1, 1]).expand([n, h, w, c], false);
    let columns = axis(1, w).view([n, 1, w, 1]).expand([n, h, w, c], false);
    images.gather(1, &rows, false).gather(2, &columns, false)
}

/// Offsets for [`shift`] from torch's generator.
pub fn draw_offsets(images: i64, padding: i64, device: tch::Device) -> Tensor {
    Tensor::randint(2 * padding + 1, [images, 2], (tch::Kind::Int64, device))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

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
}
