mod eviction;
mod frames;
mod loading;
