mod baking;
mod devices;
mod eviction;
mod frames;
mod loading;
