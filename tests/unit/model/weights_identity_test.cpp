#include "krul/model/weights_identity.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "support/gguf_writer.hpp"

using namespace krul;
using krul::testing::GgufWriter;

namespace {

struct Content {
  std::vector<std::function<void(GgufWriter&)>> keys, tensors;
};

std::string identity_of(const Content& content) {
  GgufWriter writer;
  for (const auto& add : content.keys) add(writer);
  for (const auto& add : content.tensors) add(writer);
  const auto bytes = writer.bytes();
  return weights_identity(GgufFile::from_memory(bytes, "a model").value(), "llama");
}

template <class T>
std::function<void(GgufWriter&)> key(std::string name, T value) {
  return [=](GgufWriter& writer) { writer.set(name, value); };
}

std::function<void(GgufWriter&)> tensor(std::string name, std::vector<std::uint64_t> shape, float first) {
  return [=](GgufWriter& writer) {
    std::vector<float> values(shape[0] * shape[1], 0.5F);
    values[0] = first;
    writer.add_tensor(name, shape, GgufType::f32, std::span<const float>(values));
  };
}

std::function<void(GgufWriter&)> vector(std::string name, GgufType type, std::vector<float> values) {
  return [=](GgufWriter& writer) { writer.add_tensor(name, {values.size()}, type, std::span<const float>(values)); };
}
std::function<void(GgufWriter&)> bias(GgufType type, std::vector<float> values) {
  return vector("blk.0.attn_q.bias", type, std::move(values));
}

Content usual() {
  return {{key("general.architecture", std::string("llama")), key("general.name", std::string("A")),
           key("llama.attention.layer_norm_rms_epsilon", 1e-5F), key("llama.block_count", std::uint32_t{2}),
           key("llama.rope.freq_base", 10000.0F), key("llama.context_length", std::uint32_t{64}),
           key("tokenizer.chat_template", std::string("{{ x }}"))},
          {tensor("token_embd.weight", {4, 3}, 1), tensor("blk.0.attn_q.weight", {2, 2}, 2)}};
}

std::string with(const std::function<void(Content&)>& change) {
  Content content = usual();
  change(content);
  return identity_of(content);
}

}  // namespace

TEST_CASE("weights are the same whatever else their file says, and in whatever order") {
  const std::string same = identity_of(usual());
  CHECK(same.size() == 32);
  const auto more = [](auto name, auto value) {
    return [=](Content& content) { content.keys.push_back(key(name, value)); };
  };
  CHECK(with([](Content& c) { std::reverse(c.keys.begin(), c.keys.end()); }) == same);
  CHECK(with([](Content& c) { std::reverse(c.tensors.begin(), c.tensors.end()); }) == same);
  CHECK(with(more("general.license", std::string("apache-2.0"))) == same);
  CHECK(with([](Content& c) { c.keys[1] = key("general.name", std::string("Another")); }) == same);
  CHECK(with([](Content& c) { c.keys[6] = key("tokenizer.chat_template", std::string("")); }) == same);
  CHECK(with([](Content& c) { c.keys[5] = key("llama.context_length", std::uint32_t{128}); }) == same);
  // The same number, typed in another way; and what is said by leaving it out.
  CHECK(with([](Content& c) { c.keys[3] = key("llama.block_count", std::uint64_t{2}); }) == same);
  CHECK(with([](Content& c) { c.keys[2] = key("llama.attention.layer_norm_rms_epsilon", 1e-5); }) == same);
  CHECK(with(more("llama.rope.scaling.type", std::string("none"))) == same);
  CHECK(with(more("llama.rope.scaling.factor", 1.0F)) == same);
  CHECK(with(more("llama.expert_count", std::uint32_t{0})) == same);
  CHECK(with([](Content& c) { c.tensors.push_back(tensor("output.weight", {4, 3}, 1)); }) == same);
}

TEST_CASE("what is computed without a key does not change with it") {
  const std::string same = identity_of(usual());
  const auto check = [&](const std::string& name, const auto& value) {
    CAPTURE(name);
    CHECK(with([&](Content& content) { content.keys.push_back(key("llama." + name, value)); }) == same);
  };
  check("logit_scale", 1.0F);
  check("embedding_scale", 1.0F);
  check("residual_scale", 1.0F);
  check("attention.causal", true);
  check("attention.sliding_window", std::uint32_t{64});
  check("attention.sliding_window", std::uint32_t{4096});
  check("attention.sliding_window_pattern", std::vector<std::int32_t>{1, 0});
  check("attention.layer_norm_epsilon", 1e-6F);
  check("attention.scale", 0.0F);
  check("rope.scaling.attn_factor", 1.0F);
  check("rope.scaling.original_context_length", std::uint32_t{64});
  check("rope.scaling.type", std::string("linear"));
  check("tensor_data_layout", std::string("Meta AI original pth"));
  check("expert_count", std::vector<std::int32_t>{0, 0});
}

TEST_CASE("norms and biases are their values, however they are stored; a bias of zeros is none") {
  const std::string same = identity_of(usual());
  const auto norm = [](GgufType type) {
    return with([&](Content& c) { c.tensors.push_back(vector("blk.0.attn_norm.weight", type, {1, 0.5F})); });
  };
  CHECK(norm(GgufType::f16) == norm(GgufType::f32));
  CHECK(norm(GgufType::bf16) == norm(GgufType::f32));
  CHECK(norm(GgufType::f32) != same);
  CHECK(with([](Content& c) { c.tensors.push_back(bias(GgufType::f32, {0, 0})); }) == same);
  CHECK(with([](Content& c) { c.tensors.push_back(bias(GgufType::f16, {0, -0.0F})); }) == same);
  CHECK(with([](Content& c) { c.tensors.push_back(vector("blk.0.attn_norm.weight", GgufType::f32, {0, 0})); }) != same);
}

TEST_CASE("the identity of a plain file stays what it is") {
  CHECK(identity_of(usual()) == "4e72de69784914f4350ada7932beaef5");
}

TEST_CASE("weights that mean something else are others") {
  const std::string same = identity_of(usual());
  const auto differ = [&](const std::function<void(Content&)>& change) { return with(change) != same; };
  const auto more = [](auto name, auto value) {
    return [=](Content& content) { content.keys.push_back(key(name, value)); };
  };
  CHECK(differ([](Content& c) { c.tensors[0] = tensor("token_embd.weight", {4, 3}, 1.0000001F); }));
  CHECK(differ([](Content& c) { c.tensors[0] = tensor("token_embd.weight", {3, 4}, 1); }));
  CHECK(differ([](Content& c) { c.tensors[1] = tensor("blk.0.attn_k.weight", {2, 2}, 2); }));
  CHECK(differ([](Content& c) { c.tensors.push_back(tensor("output.weight", {4, 3}, 2)); }));
  CHECK(differ([](Content& c) { c.keys[2] = key("llama.attention.layer_norm_rms_epsilon", 1e-6F); }));
  CHECK(differ(more("llama.attention.sliding_window", std::uint32_t{63})));
  CHECK(differ(more("llama.logit_scale", 0.5F)));
  CHECK(differ(more("llama.attention.causal", false)));
  CHECK(differ(more("llama.attention.scale", 0.5F)));
  CHECK(differ([](Content& c) { c.tensors.push_back(bias(GgufType::f32, {0, 0.5F})); }));
  CHECK(differ(more("llama.rope.scaling.factor", 2.0F)));
  CHECK(differ(more("llama.some_flag", true)));
  CHECK(differ(more("llama.sections", std::vector<std::int32_t>{1, 2})));
  CHECK(differ(more("llama.factors", std::vector<float>{1, 2})));
  CHECK(with(more("llama.factors", std::vector<float>{1, 2})) != with(more("llama.factors", std::vector<float>{1, 3})));
}
