//! What draws one camera's pictures, and the past that late cameras see.

use std::collections::VecDeque;

use mujoco_rs::{
    prelude::*,
    renderer::{MjRenderer, RendererError},
};

use crate::{
    SceneCamera, SimError,
    optics::{Optics, Source, add_noise},
};

/// One camera's renderer, and its lens.
pub(crate) struct Eye {
    renderer: MjRenderer,
    optics: Option<Optics>,
    noise_levels: f64,
    /// Pictures drawn since the last reset: each has noise of its own.
    pub pictures: u64,
}

impl Eye {
    /// For the camera of this number in the model.
    pub fn new(model: &MjModel, id: usize, camera: &SceneCamera) -> Result<Self, SimError> {
        let [width, height] = match Source::of(camera) {
            Some(Ok(source)) => [source.width, source.height],
            _ => [camera.width, camera.height],
        };
        let renderer = MjRenderer::builder()
            .width(width)
            .height(height)
            .camera(MjvCamera::new_fixed(id))
            .build(model)
            .map_err(|e| renderer_error(&e))?;
        Ok(Self {
            renderer,
            optics: Optics::of(camera),
            noise_levels: camera.noise_levels,
            pictures: 0,
        })
    }

    /// Draws the scene as it stands into a picture of the camera's size; `index` is its number in the
    /// scene's order.
    pub fn draw(
        &mut self,
        data: &mut MjData<Box<MjModel>>,
        index: usize,
        rgb: &mut [u8],
    ) -> Result<(), SimError> {
        self.renderer
            .sync_data(data)
            .and_then(|()| self.renderer.render())
            .map_err(|e| renderer_error(&e))?;
        let frame = self.renderer.rgb_flat().unwrap_or(&[]);
        match &self.optics {
            Some(optics) => optics.bend(frame, rgb),
            None => rgb.copy_from_slice(frame),
        }
        if self.noise_levels > 0.0 {
            add_noise(rgb, self.noise_levels, index, self.pictures);
        }
        self.pictures += 1;
        Ok(())
    }
}

/// With its cause: the renderer's own message leaves it out.
fn renderer_error(error: &RendererError) -> SimError {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    SimError::Renderer(format!("{error}{}", cause.unwrap_or_default()))
}

/// Where everything was, as long as the latest camera wants to know.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    longest_ns: u64,
    /// Time and positions, the oldest first.
    states: VecDeque<(u64, Vec<f64>)>,
}

impl Past {
    /// For cameras of these latencies; without any it keeps nothing.
    pub fn new(latencies_ns: impl Iterator<Item = u64>) -> Self {
        Self {
            longest_ns: latencies_ns.max().unwrap_or(0),
            states: VecDeque::new(),
        }
    }

    /// Everything is elsewhere now: what was before is not seen any more.
    pub fn forget(&mut self) {
        self.states.clear();
    }

    /// Keeps where everything is at this time.
    pub fn keep(&mut self, time_ns: u64, qpos: &[f64]) {
        if self.longest_ns == 0 {
            return;
        }
        let oldest_ns = time_ns.saturating_sub(self.longest_ns);
        // One that is as old as that is needed; those before it are not, and their room is used again.
        let mut room = None;
        while self.states.get(1).is_some_and(|next| next.0 <= oldest_ns) {
            room = self.states.pop_front();
        }
        let mut state = room.map_or_else(Vec::new, |(_, state)| state);
        state.clear();
        state.extend_from_slice(qpos);
        self.states.push_back((time_ns, state));
    }

    /// Where everything was then: the newest state that is not younger, or the oldest that there is.
    pub fn at(&self, time_ns: u64) -> Option<&[f64]> {
        let younger = self.states.partition_point(|state| state.0 <= time_ns);
        let state = self.states.get(younger.saturating_sub(1))?;
        Some(&state.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_kept_as_long_as_it_is_wanted() {
        let mut past = Past::new([0, 20].into_iter());
        assert_eq!(past.at(5), None);
        for time in [10, 14, 18, 22, 26, 30, 34, 38, 42] {
            past.keep(time, &[time as f64]);
        }
        assert_eq!(past.at(42), Some(&[42.0][..]));
        assert_eq!(past.at(41), Some(&[38.0][..]));
        assert_eq!(past.at(22), Some(&[22.0][..]));
        // Older than anybody wants it: the oldest there is.
        assert_eq!(past.at(3), Some(&[22.0][..]));
        past.forget();
        assert_eq!(past.at(42), None);
        let mut none = Past::new([0].into_iter());
        none.keep(1, &[1.0]);
        assert_eq!(none.at(1), None);
    }
}
