/*
 * server.c - the server of the C tests as a program: `server [PORT]` prints its
 * port, and serves until its input ends.
 */
#define _DEFAULT_SOURCE 1

#include "faultserver.h"

#include <signal.h>

int main(int argc, char **argv)
{
    char byte;

    signal(SIGPIPE, SIG_IGN);
    server.port = argc > 1 ? (uint16_t)atoi(argv[1]) : 0;
    server_start();
    printf("%u\n", server.port);
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    _exit(check_failed ? EXIT_FAILURE : EXIT_SUCCESS);
}
