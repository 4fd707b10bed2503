/* Decodes snappy blocks with Google's C++ library: standard input holds one after the other, each behind its length
 * (32 bits, little-endian), and so does standard output hold what is in them. Prometheus, Cortex and Mimir decode in Go;
 * receivers in C++ decode with this. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* As in snappy-c.h, so that only the library and not its headers is needed; 0 is SNAPPY_OK. */
int snappy_uncompress(const char *compressed, size_t compressed_length, char *uncompressed, size_t *uncompressed_length);
int snappy_uncompressed_length(const char *compressed, size_t compressed_length, size_t *result);
int snappy_validate_compressed_buffer(const char *compressed, size_t compressed_length);

int main(void) {
    uint32_t length;
    for (int n = 0; fread(&length, sizeof length, 1, stdin) == 1; n++) {
        char *block = malloc(length + 1);
        size_t decoded_length = 0;
        if (block == NULL || fread(block, 1, length, stdin) != length)
            return 2;
        if (snappy_validate_compressed_buffer(block, length) != 0 ||
            snappy_uncompressed_length(block, length, &decoded_length) != 0) {
            fprintf(stderr, "undecodable: block %d\n", n);
            return 1;
        }
        char *decoded = malloc(decoded_length + 1);
        if (decoded == NULL)
            return 2;
        if (snappy_uncompress(block, length, decoded, &decoded_length) != 0) {
            fprintf(stderr, "undecodable: block %d\n", n);
            return 1;
        }
        uint32_t written = (uint32_t)decoded_length;
        fwrite(&written, sizeof written, 1, stdout);
        fwrite(decoded, 1, decoded_length, stdout);
        free(block);
        free(decoded);
    }
    return fflush(stdout) == 0 ? 0 : 2;
}
