//! What can be bound: one endpoint, or several.

/// One endpoint, or several: what [`Server::bind`](crate::Server::bind) takes.
pub trait Endpoints: sealed::Sealed {
    #[doc(hidden)]
    fn into_texts(self) -> Vec<String>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &str {}
    impl Sealed for &String {}
    impl Sealed for String {}
    impl<T: AsRef<str>, const N: usize> Sealed for [T; N] {}
    impl<T: AsRef<str>> Sealed for &[T] {}
    impl<T: AsRef<str>> Sealed for &Vec<T> {}
    impl<T: AsRef<str>> Sealed for Vec<T> {}
}

impl Endpoints for &str {
    fn into_texts(self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl Endpoints for &String {
    fn into_texts(self) -> Vec<String> {
        vec![self.clone()]
    }
}

impl Endpoints for String {
    fn into_texts(self) -> Vec<String> {
        vec![self]
    }
}

impl<T: AsRef<str>, const N: usize> Endpoints for [T; N] {
    fn into_texts(self) -> Vec<String> {
        self.as_slice().into_texts()
    }
}

impl<T: AsRef<str>> Endpoints for &[T] {
    fn into_texts(self) -> Vec<String> {
        self.iter().map(|text| text.as_ref().to_owned()).collect()
    }
}

impl<T: AsRef<str>> Endpoints for &Vec<T> {
    fn into_texts(self) -> Vec<String> {
        self.as_slice().into_texts()
    }
}

impl<T: AsRef<str>> Endpoints for Vec<T> {
    fn into_texts(self) -> Vec<String> {
        self.as_slice().into_texts()
    }
}
