mod baking;
mod eviction;
mod frames;
mod loading;
