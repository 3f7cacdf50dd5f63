mod baking;
mod devices;
mod eviction;
mod frames;
mod hostile_folders;
mod hostile_packs;
mod loading;
mod panics;
