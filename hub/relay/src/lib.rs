//! What is carried: redeems two tickets, splices the halves blindly, cuts on revocation.
