//! A macro for the setters of a builder: each takes one line behind its documentation.

/// Implements setters on `$builder`, each of which stores its argument in the field of the same
/// name in the builder's `config`. The doc comments of the setters are written in the macro call.
macro_rules! setters {
    ($builder:ident { $($(#[$doc:meta])* $name:ident: $ty:ty,)* }) => {
        impl $builder {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name(mut self, $name: $ty) -> Self {
                    self.config.$name = $name.into();
                    self
                }
            )*
        }
    };
}

pub(crate) use setters;
