// A conversation whose rows lie in an engine's pages on a CUDA device is saved, and restored into other pages.

#include <iostream>
#include <krul/compress/exact_codec.hpp>
#include <krul/conversation/conversation.hpp>
#include <krul/cuda/cuda_device.cuh>
#include <krul/cuda/devices.hpp>
#include <krul/store/memory_store.hpp>
#include <krul/strategy/catalogue/load.hpp>

#include "engine.hpp"

int main() {
  const auto found = krul::cuda::devices();
  if (!found || found->empty()) {
    std::cout << "Nothing is shown: " << (found ? "there is no CUDA device" : found.error().message) << '\n';
    return 0;
  }
  auto device = krul::cuda::CudaDevice::open(0).value();
  paged::Engine<krul::cuda::CudaDevice> engine(device);
  static_assert(krul::ModelBackend<decltype(engine)>);
  krul::MemoryStore store;
  std::vector<float> logits(engine.geometry().vocabulary), restored(logits.size());
  std::vector<krul::Token> tokens;
  for (krul::Token token = 7; tokens.size() < 260; token = (token * 21 + 13) % 64) tokens.push_back(token);
  {
    auto conversation =
        krul::open_conversation(engine, store, "garden", krul::strategy::load(krul::ExactCodec{})).value();
    conversation.advance(std::span(tokens).first(256), logits).value();
    std::cout << conversation.save().value().rows << " tokens saved from pages of " << found->front().name << '\n';
    conversation.advance(tokens, logits).value();
  }
  auto conversation =
      krul::open_conversation(engine, store, "garden", krul::strategy::load(krul::ExactCodec{})).value();
  std::cout << conversation.advance(tokens, restored).value().loaded_rows << " rows loaded into other pages; logits "
            << (restored == logits ? "are the same\n" : "differ\n");
}
