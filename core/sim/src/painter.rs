//! What draws the cameras' pictures: on the thread that made it, as its GL contexts must be.

use mujoco_rs::{
    prelude::*,
    renderer::{MjRenderer, RendererError},
};

use crate::{
    SceneCamera, SceneConfig, SimError,
    libraries::check_rendering_libraries,
    optics::{Optics, Source, add_noise},
    simulation::id,
};

/// What a camera is to see.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Where everything is.
    pub qpos: Vec<f64>,
    /// Which picture it is since the last reset: each has noise of its own.
    pub picture: u64,
}

/// The scene once more, only to be looked at, with its cameras.
pub(crate) struct Painter {
    data: MjData<Box<MjModel>>,
    eyes: Vec<Eye>,
}

impl Painter {
    /// Builds the scene and its renderers.
    pub fn new(config: &SceneConfig) -> Result<Self, SimError> {
        let model = MjModel::from_xml_string(&config.mjcf()?);
        let mut model = model.map_err(|e| SimError::Model(e.to_string()))?;
        draw_boards(&mut model, config)?;
        if !config.cameras.is_empty() {
            check_rendering_libraries()?;
        }
        let eye = |camera: &SceneCamera| {
            let id = id(&model, MjtObjBase::mjOBJ_CAMERA, &camera.name)?;
            Eye::new(&model, id, camera)
        };
        let eyes = config.cameras.iter().map(eye).collect::<Result<_, _>>()?;
        let data = MjData::new(Box::new(model));
        Ok(Self { data, eyes })
    }

    /// Draws what camera `index` sees into `rgb`: height × width × 3 bytes, row 0 on top.
    pub fn draw(&mut self, index: usize, moment: &Moment, rgb: &mut [u8]) -> Result<(), SimError> {
        let cameras = self.eyes.len();
        let eye = (self.eyes.get_mut(index)).ok_or(SimError::NoCamera { index, cameras })?;
        if rgb.len() != eye.bytes {
            return Err(SimError::BufferSize {
                camera: index,
                expected: eye.bytes,
                got: rgb.len(),
            });
        }
        self.data.qpos_mut().copy_from_slice(&moment.qpos);
        // Positions of what is drawn follow from qpos; dynamics are not needed for a picture.
        self.data.kinematics();
        self.data.camlight();
        eye.draw(&mut self.data, rgb)?;
        if eye.noise_levels > 0.0 {
            add_noise(rgb, eye.noise_levels, index, moment.picture);
        }
        Ok(())
    }
}

/// One camera's renderer, and its lens.
struct Eye {
    renderer: MjRenderer,
    optics: Option<Optics>,
    noise_levels: f64,
    /// Of its pictures.
    bytes: usize,
}

impl Eye {
    /// For the camera of this number in the model.
    fn new(model: &MjModel, id: usize, camera: &SceneCamera) -> Result<Self, SimError> {
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
            bytes: camera.width as usize * camera.height as usize * 3,
        })
    }

    /// Draws the scene as it stands into a picture of its size.
    fn draw(&mut self, data: &mut MjData<Box<MjModel>>, rgb: &mut [u8]) -> Result<(), SimError> {
        self.renderer
            .sync_data(data)
            .and_then(|()| self.renderer.render())
            .map_err(|e| renderer_error(&e))?;
        let frame = self.renderer.rgb_flat().unwrap_or(&[]);
        match &self.optics {
            Some(optics) => optics.bend(frame, rgb),
            None => rgb.copy_from_slice(frame),
        }
        Ok(())
    }
}

/// Draws the boards' pictures into the model's textures.
fn draw_boards(model: &mut MjModel, config: &SceneConfig) -> Result<(), SimError> {
    for (i, board) in config.boards.iter().enumerate() {
        let texture = id(model, MjtObjBase::mjOBJ_TEXTURE, &format!("board{i}"))?;
        let missing = || SimError::Model(format!("the texture of board {i}"));
        let begin = usize::try_from(model.tex_adr()[texture]).map_err(|_| missing())?;
        let sides = [model.tex_width()[texture], model.tex_height()[texture], 3];
        let bytes = sides.iter().product::<i32>() as usize;
        let texels = model.tex_data_mut().get_mut(begin..begin + bytes);
        board.draw(texels.ok_or_else(missing)?);
    }
    Ok(())
}

/// With its cause: the renderer's own message leaves it out.
pub(crate) fn renderer_error(error: &RendererError) -> SimError {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    SimError::Renderer(format!("{error}{}", cause.unwrap_or_default()))
}
