#include "kernels/attention_decoding.hpp"

namespace attnlib::ATTNLIB_ISA {

extern const AttentionDecodeKernels attention_decode_kernels;
constinit const AttentionDecodeKernels attention_decode_kernels = {
    .attend = {attend<BlockWalk<float>>, attend<BlockWalk<double>>, attend<BlockWalk<float16>>,
               attend<BlockWalk<bfloat16>>},
    .attend_chunk = {attend_chunk<BlockWalk<float>>, attend_chunk<BlockWalk<double>>, attend_chunk<BlockWalk<float16>>,
                     attend_chunk<BlockWalk<bfloat16>>},
    .join_chunks = {join_chunks<BlockWalk<float>>, join_chunks<BlockWalk<double>>, join_chunks<BlockWalk<float16>>,
                    join_chunks<BlockWalk<bfloat16>>},
    .partial_bytes = {bytes_of_partial<BlockWalk<float>>, bytes_of_partial<BlockWalk<double>>,
                      bytes_of_partial<BlockWalk<float16>>, bytes_of_partial<BlockWalk<bfloat16>>},
    .scratch_bytes = {scratch_bytes<BlockWalk<float>>, scratch_bytes<BlockWalk<double>>,
                      scratch_bytes<BlockWalk<float16>>, scratch_bytes<BlockWalk<bfloat16>>},
};

}  // namespace attnlib::ATTNLIB_ISA
