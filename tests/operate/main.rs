//! What an operator sees and turns, with the real program, real load and real analyzers: the reference's
//! own requests, health checks, reload and orders under load, and the page in a browser.

mod addresses;
mod browser;
mod crowd;
mod health;
mod load;
mod mocks;
mod networks;
mod orders;
mod outlier;
mod page;
mod prometheus;
mod reference;
mod refused;
