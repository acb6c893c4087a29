//! Pictures of a figure, as Gymnasium's own are: from the camera `track` of its model.

use mujoco_rs::{prelude::*, renderer::MjRenderer};

use crate::{
    SimError, libraries::check_rendering_libraries, painter::renderer_error, simulation::id,
};

/// The model once more, only to be looked at.
pub(super) struct View {
    data: MjData<Box<MjModel>>,
    renderer: MjRenderer,
    size: [u32; 2],
    floor_repeats_m: f64,
}

impl View {
    /// For pictures of this width and height, pixels.
    pub fn new(model: &MjModel, [width, height]: [u32; 2]) -> Result<Self, SimError> {
        if ![width, height]
            .iter()
            .all(|side| (16..=4096).contains(side))
        {
            let (field, problem) = (
                "picture".into(),
                format!("is {width}×{height}; each side must be 16 to 4096"),
            );
            return Err(SimError::Config { field, problem });
        }
        check_rendering_libraries()?;
        let mut model = Box::new(model.clone());
        let [offwidth, offheight] = [width, height].map(|side| side as i32);
        // Shadows take most of a software renderer's time, and show little here.
        model.vis_mut().quality.shadowsize = 0;
        let global = &mut model.vis_mut().global;
        (global.offwidth, global.offheight) = (offwidth, offheight);
        let floor_repeats_m = floor_repeats_m(&model)?;
        let camera = id(&model, MjtObjBase::mjOBJ_CAMERA, "track")?;
        let renderer = MjRenderer::builder()
            .width(width)
            .height(height)
            .camera(MjvCamera::new_fixed(camera))
            .build(&model)
            .map_err(|e| renderer_error(&e))?;
        Ok(Self {
            data: MjData::new(model),
            renderer,
            size: [width, height],
            floor_repeats_m,
        })
    }

    pub fn size(&self) -> [u32; 2] {
        self.size
    }

    /// Draws it with its joints there.
    pub fn draw(&mut self, qpos: &[f64]) -> Result<Vec<u8>, SimError> {
        self.data.qpos_mut().copy_from_slice(qpos);
        // The floor that is drawn ends after 20 or 40 m, and it looks the same wherever its texture begins anew.
        let far_m = &mut self.data.qpos_mut()[0];
        *far_m = far_m.rem_euclid(self.floor_repeats_m);
        // What is drawn follows from qpos; the camera goes along with the centre of mass.
        self.data.kinematics();
        self.data.com_pos();
        self.data.camlight();
        (self.renderer.sync_data(&mut self.data))
            .and_then(|()| self.renderer.render())
            .map_err(|e| renderer_error(&e))?;
        Ok(self.renderer.rgb_flat().unwrap_or(&[]).to_vec())
    }
}

/// After how far along the floor its texture begins anew.
fn floor_repeats_m(model: &MjModel) -> Result<f64, SimError> {
    let floor = id(model, MjtObjBase::mjOBJ_GEOM, "floor")?;
    let material = usize::try_from(model.geom_matid()[floor]);
    let material = material.map_err(|_| SimError::Model("its floor has no material".into()))?;
    let repeats = f64::from(model.mat_texrepeat()[material][0]);
    Ok(2.0 * model.geom_size()[floor][0] / repeats)
}
