//! A tower layer that signs HTTP requests with AWS SigV4, and credentials that refresh themselves
