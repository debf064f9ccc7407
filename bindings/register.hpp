// One register_* function per family of operations; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

namespace attnlib::bindings {

void register_activation(pybind11::module_& module);
void register_attention(pybind11::module_& module);
void register_attention_cached(pybind11::module_& module);
void register_c_api(pybind11::module_& module);
void register_ceiling(pybind11::module_& module);
void register_decoder_layers(pybind11::module_& module);
void register_dlpack(pybind11::module_& module);
void register_embedding(pybind11::module_& module);
void register_encoder_layers(pybind11::module_& module);
void register_fork();
void register_gated_feed_forward(pybind11::module_& module);
void register_lstm_steps(pybind11::module_& module);
void register_matmul(pybind11::module_& module);
void register_normalization(pybind11::module_& module);
void register_rotary(pybind11::module_& module);
void register_runtime(pybind11::module_& module);
void register_softmax(pybind11::module_& module);

}  // namespace attnlib::bindings
