//! Small questions on pieces of syntax.

use syn::{Attribute, FnArg, Item, Meta, Path, Type, Visibility};

use crate::model::Shape;

pub fn is_public(visibility: &Visibility) -> bool {
    match visibility {
        Visibility::Public(_) => true,
        Visibility::Restricted(restricted) => !restricted.path.is_ident("self"),
        Visibility::Inherited => false,
    }
}

/// Whether the item is there in tests only: `#[cfg(test)]`, `#[test]`, `#[tokio::test]`.
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        if attribute.path().is_ident("cfg") {
            return attribute.parse_args::<Meta>().is_ok_and(|condition| needs_test(&condition));
        }
        attribute.path().segments.last().is_some_and(|segment| segment.ident == "test")
    })
}

fn needs_test(condition: &Meta) -> bool {
    let parts = || {
        let Meta::List(list) = condition else { return Vec::new() };
        let parser = syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated;
        list.parse_args_with(parser).map_or(Vec::new(), |parts| parts.into_iter().collect())
    };
    let path = condition.path();
    if path.is_ident("all") {
        parts().iter().any(needs_test)
    } else if path.is_ident("any") {
        !parts().is_empty() && parts().iter().all(needs_test)
    } else {
        path.is_ident("test")
    }
}

pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The segments of a path without their generics.
pub fn segments(path: &Path) -> Vec<String> {
    let absolute = path.leading_colon.map(|_| String::new());
    absolute.into_iter().chain(path.segments.iter().map(|segment| segment.ident.to_string())).collect()
}

pub fn shape_of_argument(argument: &FnArg) -> Shape {
    match argument {
        FnArg::Receiver(_) => Shape { elements: 1, ..Shape::default() },
        FnArg::Typed(argument) => shape(&argument.ty),
    }
}

/// The shape of a type.
pub fn shape(ty: &Type) -> Shape {
    let mut widest = Widest(0);
    syn::visit::Visit::visit_type(&mut widest, ty);
    Shape { elements: elements(ty), widest: widest.0, path: path_of(ty) }
}

/// The path of a type, also behind references and in `dyn Trait`.
pub fn path_of(ty: &Type) -> Vec<String> {
    match ty {
        Type::Path(ty) if ty.qself.is_none() => segments(&ty.path),
        Type::Reference(ty) => path_of(&ty.elem),
        Type::Paren(ty) => path_of(&ty.elem),
        Type::Group(ty) => path_of(&ty.elem),
        Type::TraitObject(ty) => {
            let path = ty.bounds.iter().find_map(|bound| match bound {
                syn::TypeParamBound::Trait(bound) => Some(segments(&bound.path)),
                _ => None,
            });
            path.unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

fn elements(ty: &Type) -> usize {
    match ty {
        Type::Tuple(tuple) => tuple.elems.iter().map(elements).sum::<usize>().max(1),
        Type::Reference(ty) => elements(&ty.elem),
        Type::Paren(ty) => elements(&ty.elem),
        Type::Group(ty) => elements(&ty.elem),
        Type::Path(ty) => elements_of_wrapped(&ty.path),
        _ => 1,
    }
}

/// An `Option` of a tuple holds as many values as the tuple.
fn elements_of_wrapped(path: &Path) -> usize {
    let Some(last) = path.segments.last().filter(|last| last.ident == "Option" || last.ident == "Box") else {
        return 1;
    };
    let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else { return 1 };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        syn::GenericArgument::Type(ty) => Some(elements(ty)),
        _ => None,
    });
    types.sum::<usize>().max(1)
}

struct Widest(usize);

impl syn::visit::Visit<'_> for Widest {
    fn visit_type_tuple(&mut self, tuple: &syn::TypeTuple) {
        self.0 = self.0.max(tuple.elems.len());
        syn::visit::visit_type_tuple(self, tuple);
    }
}
