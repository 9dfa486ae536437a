//! The C math functions that methods of f64 and f32 call where the compiler does not fold them; all from `libm`.

macro_rules! unary {
    ($t:ty: $($name:ident)*) => { $(
        #[unsafe(no_mangle)]
        extern "C" fn $name(x: $t) -> $t { libm::$name(x) }
    )* };
}

macro_rules! binary {
    ($t:ty: $($name:ident)*) => { $(
        #[unsafe(no_mangle)]
        extern "C" fn $name(x: $t, y: $t) -> $t { libm::$name(x, y) }
    )* };
}

unary! { f64: sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh exp exp2 expm1 log log2 log10 log1p cbrt sqrt
floor ceil trunc round rint roundeven }
unary! { f32: sinf cosf tanf asinf acosf atanf sinhf coshf tanhf asinhf acoshf atanhf expf exp2f expm1f logf log2f log10f
log1pf cbrtf sqrtf floorf ceilf truncf roundf rintf roundevenf }
binary! { f64: pow fmod hypot atan2 fmin fmax fdim }
binary! { f32: powf fmodf hypotf atan2f fminf fmaxf fdimf }

#[unsafe(no_mangle)]
extern "C" fn fma(x: f64, y: f64, z: f64) -> f64 {
    libm::fma(x, y, z)
}

#[unsafe(no_mangle)]
extern "C" fn fmaf(x: f32, y: f32, z: f32) -> f32 {
    libm::fmaf(x, y, z)
}
