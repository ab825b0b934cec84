//! How a server's catalog is kept equal to the table, whatever happens to the database and to what it tells.

mod hints;
mod restored;
mod signs;
mod unseen;
