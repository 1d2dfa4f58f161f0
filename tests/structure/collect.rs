//! Reads one file into plain data.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenStream;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use crate::model::{Call, Function, Implementation, Item, Kind, Mention, Module, ModulePath};
use crate::syntax::{attributes, is_public, is_test, path_of, segments, shape, shape_of_argument};
use crate::tokens;

/// What is collected of all files.
#[derive(Default)]
pub struct Collected {
    pub modules: BTreeMap<ModulePath, Module>,
    /// Modules that are declared for tests.
    pub tests: BTreeSet<ModulePath>,
    /// Modules that are declared for the program.
    pub program: BTreeSet<ModulePath>,
}

/// Adds the modules of a file.
pub fn collect(file: &str, module: ModulePath, syntax: &syn::File, into: &mut Collected) {
    if is_test(&syntax.attrs) {
        into.tests.insert(module.clone());
    }
    let mut collector = Collector { file, module, around: Vec::new(), of_trait: false, into };
    collector.module();
    collector.visit_file(syntax);
}

struct Collector<'a> {
    file: &'a str,
    module: ModulePath,
    /// The types, traits and functions around the place.
    around: Vec<String>,
    /// Whether the place is in the implementation of a trait.
    of_trait: bool,
    into: &'a mut Collected,
}

impl Collector<'_> {
    fn module(&mut self) -> &mut Module {
        let module = self.into.modules.entry(self.module.clone()).or_default();
        self.file.clone_into(&mut module.file);
        module
    }

    fn child(&self, name: &str) -> ModulePath {
        let mut child = self.module.clone();
        child.push(name.to_owned());
        child
    }

    fn define(&mut self, name: &syn::Ident, visibility: Option<&syn::Visibility>, kind: Kind) -> &mut Item {
        let item = Item {
            kind,
            public: visibility.is_some_and(is_public),
            line: name.span().start().line,
            fields: 0,
            alias: None,
        };
        let items = self.module().items.entry(name.to_string()).or_default();
        items.push(item);
        let last = items.len() - 1;
        &mut items[last]
    }

    fn define_item(&mut self, item: &syn::Item) {
        match item {
            syn::Item::Struct(item) => {
                self.define(&item.ident, Some(&item.vis), Kind::Type).fields = item.fields.len();
                self.define_resource(&item.attrs);
            }
            syn::Item::Enum(item) => {
                let fields = item.variants.iter().map(|variant| variant.fields.len()).max().unwrap_or_default();
                self.define(&item.ident, Some(&item.vis), Kind::Type).fields = fields;
            }
            syn::Item::Union(item) => {
                self.define(&item.ident, Some(&item.vis), Kind::Type).fields = item.fields.named.len();
            }
            syn::Item::Trait(item) => {
                self.define(&item.ident, Some(&item.vis), Kind::Type);
            }
            syn::Item::Type(item) => {
                self.define(&item.ident, Some(&item.vis), Kind::Alias).alias = Some(shape(&item.ty));
            }
            syn::Item::Fn(item) => {
                self.define(&item.sig.ident, Some(&item.vis), Kind::Other);
            }
            syn::Item::Const(item) => {
                self.define(&item.ident, Some(&item.vis), Kind::Other);
            }
            syn::Item::Static(item) => {
                self.define(&item.ident, Some(&item.vis), Kind::Other);
            }
            _ => {}
        }
    }

    /// The type that kube's macro makes for a resource.
    fn define_resource(&mut self, attributes: &[syn::Attribute]) {
        for list in attributes.iter().filter(|attribute| attribute.path().is_ident("kube")).filter_map(list_of) {
            if let Some(name) = tokens::kind_of_resource(list.tokens.clone()) {
                self.define(&syn::Ident::new(&name, list.span()), None, Kind::Type).public = true;
            }
        }
    }

    fn read_tokens(&mut self, tokens: TokenStream) {
        let found = tokens::scan(tokens);
        let module = self.module();
        module.mentions.extend(found.mentions);
        module.calls.extend(found.calls);
        module.waits.extend(found.waits);
        for (name, line) in found.types {
            let item = Item { kind: Kind::Type, public: true, line, fields: 0, alias: None };
            module.items.entry(name).or_default().push(item);
        }
    }

    fn read_function(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let line = signature.span().start().line;
        let end = body.brace_token.span.close().end().line;
        let name: Vec<_> = self.around.iter().cloned().chain([signature.ident.to_string()]).collect();
        let function = Function {
            name: name.join("::"),
            line,
            lines: end + 1 - line,
            parameters: signature.inputs.iter().map(shape_of_argument).collect(),
            of_trait: self.of_trait,
        };
        self.module().functions.push(function);
    }

    /// Goes on inside something that has a name.
    fn inside(&mut self, name: String, of_trait: bool, visit: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.of_trait, of_trait);
        self.around.push(name);
        visit(self);
        self.around.pop();
        self.of_trait = before;
    }

    fn read_use(&mut self, tree: &syn::UseTree, prefix: &[String]) {
        let with = |name: &syn::Ident| {
            let mut path = prefix.to_vec();
            // `a::{self}` is `a`.
            if name != "self" || prefix.is_empty() {
                path.push(name.to_string());
            }
            path
        };
        match tree {
            syn::UseTree::Path(tree) => self.read_use(&tree.tree, &with(&tree.ident)),
            syn::UseTree::Name(tree) => {
                let path = with(&tree.ident);
                let name = path.last().cloned().unwrap_or_default();
                self.import(name, path, &tree.ident);
            }
            syn::UseTree::Rename(tree) => self.import(tree.rename.to_string(), with(&tree.ident), &tree.ident),
            syn::UseTree::Glob(tree) => {
                let line = tree.star_token.span.start().line;
                let module = self.module();
                module.globs.push(prefix.to_vec());
                let path = prefix.iter().cloned().chain(["*".to_owned()]).collect();
                module.mentions.push(Mention { path, line });
            }
            syn::UseTree::Group(tree) => tree.items.iter().for_each(|item| self.read_use(item, prefix)),
        }
    }

    fn import(&mut self, name: String, path: Vec<String>, at: &syn::Ident) {
        let module = self.module();
        module.mentions.push(Mention { path: path.clone(), line: at.span().start().line });
        module.imports.entry(name).or_default().push(path);
    }
}

fn list_of(attribute: &syn::Attribute) -> Option<&syn::MetaList> {
    attribute.meta.require_list().ok()
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_test(attributes(item)) {
            if let syn::Item::Mod(module) = item {
                self.into.tests.insert(self.child(&module.ident.to_string()));
            }
            return;
        }
        self.define_item(item);
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let child = self.child(&item.ident.to_string());
        self.define(&item.ident, None, Kind::Module);
        self.into.program.insert(child.clone());
        item.attrs.iter().for_each(|attribute| self.visit_attribute(attribute));
        if let Some((_, items)) = &item.content {
            let parent = std::mem::replace(&mut self.module, child);
            self.inside(item.ident.to_string(), false, |inner| {
                inner.module();
                for item in items {
                    inner.visit_item(item);
                }
            });
            self.module = parent;
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let absolute: Vec<_> = item.leading_colon.map(|_| String::new()).into_iter().collect();
        self.read_use(&item.tree, &absolute);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let name = item.rename.as_ref().map_or(&item.ident, |(_, name)| name).to_string();
        self.import(name, vec![String::new(), item.ident.to_string()], &item.ident);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.read_function(&item.sig, &item.block);
        self.inside(item.sig.ident.to_string(), false, |inner| visit::visit_item_fn(inner, item));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let of = path_of(&item.self_ty);
        let last = |path: &[String]| path.last().cloned().unwrap_or_default();
        let name = match &item.trait_ {
            Some((_, path, _)) => format!("<{} as {}>", last(&of), last(&segments(path))),
            None => last(&of),
        };
        if item.trait_.is_none() {
            let methods = item.items.iter().filter(|item| matches!(item, syn::ImplItem::Fn(f) if !is_test(&f.attrs)));
            let (methods, line) = (methods.count(), item.impl_token.span.start().line);
            self.module().implementations.push(Implementation { of, methods, line });
        }
        self.inside(name, item.trait_.is_some(), |inner| visit::visit_item_impl(inner, item));
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.inside(item.ident.to_string(), false, |inner| visit::visit_item_trait(inner, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            self.read_function(&item.sig, &item.block);
            self.inside(item.sig.ident.to_string(), false, |inner| visit::visit_impl_item_fn(inner, item));
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if is_test(&item.attrs) {
            return;
        }
        let empty = syn::Block { brace_token: syn::token::Brace(item.sig.span()), stmts: Vec::new() };
        self.read_function(&item.sig, item.default.as_ref().unwrap_or(&empty));
        self.inside(item.sig.ident.to_string(), false, |inner| visit::visit_trait_item_fn(inner, item));
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_test(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !is_test(&local.attrs) {
            visit::visit_local(self, local);
        }
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(token) = signature.asyncness {
            self.module().waits.push(token.span.start().line);
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, expression: &'ast syn::ExprAsync) {
        self.module().waits.push(expression.async_token.span.start().line);
        visit::visit_expr_async(self, expression);
    }

    fn visit_expr_await(&mut self, expression: &'ast syn::ExprAwait) {
        self.module().waits.push(expression.await_token.span.start().line);
        visit::visit_expr_await(self, expression);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.module().calls.push(Call {
            method: call.method.to_string(),
            arguments: call.args.len(),
            generic: call.turbofish.is_some(),
            line: call.method.span().start().line,
        });
        visit::visit_expr_method_call(self, call);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let line = path.span().start().line;
        self.module().mentions.push(Mention { path: segments(path), line });
        visit::visit_path(self, path);
    }

    /// `pub(in crate::a)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if attribute.path().is_ident("path") {
            let line = attribute.span().start().line;
            self.module().detours.push(line);
        }
        if let Ok(list) = attribute.meta.require_list() {
            self.module().mentions.extend(tokens::paths_in_texts(list.tokens.clone()));
            self.read_tokens(list.tokens.clone());
        }
    }

    fn visit_macro(&mut self, macro_: &'ast syn::Macro) {
        if macro_.path.is_ident("include") {
            let line = macro_.path.span().start().line;
            self.module().detours.push(line);
        }
        self.visit_path(&macro_.path);
        self.read_tokens(macro_.tokens.clone());
    }
}
