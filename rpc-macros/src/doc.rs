//! The docs of a function: comments, and `#[doc = ...]` with any value that the compiler accepts.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, Expr, ExprLit, Lit, Meta};

/// The docs of a function, line by line.
pub(crate) struct Doc(Vec<Line>);

enum Line {
    /// A line of a comment, without the space after `///`.
    Text(String),
    /// A macro such as `include_str!("docs.md")`, which only the compiler can expand.
    Macro(TokenStream),
}

impl Doc {
    pub(crate) fn of(attrs: &[Attribute]) -> Self {
        let lines = attrs.iter().filter_map(|attr| match &attr.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => Some(match &pair.value {
                Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
                    let text = text.value();
                    Line::Text(text.strip_prefix(' ').unwrap_or(&text).to_owned())
                }
                value => Line::Macro(value.to_token_stream()),
            }),
            _ => None,
        });
        Self(lines.collect())
    }

    /// Returns the lines that are known here, joined by `\n`.
    pub(crate) fn text(&self) -> String {
        let lines = self.0.iter().map(|line| match line {
            Line::Text(text) => text.as_str(),
            Line::Macro(_) => "",
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Writes an expression of the whole text.
impl ToTokens for Doc {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        if self.0.iter().all(|line| matches!(line, Line::Text(_))) {
            return self.text().to_tokens(tokens);
        }
        let lines = self.0.iter().map(|line| match line {
            Line::Text(text) => text.to_token_stream(),
            Line::Macro(value) => value.clone(),
        });
        let lines = lines.enumerate().map(
            |(index, line)| {
                if index == 0 { line } else { quote!("\n", #line) }
            },
        );
        tokens.extend(quote!(::core::concat!(#(#lines),*)));
    }
}
