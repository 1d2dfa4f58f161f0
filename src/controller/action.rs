pub mod generating;
