#include "krul/model/decoder_file.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "support/gguf_writer.hpp"
#include "support/tiny_model.hpp"

using namespace krul;
using krul::testing::GgufWriter;

namespace {

/// A model of one layer without vocabulary keys, in which single entries can be left out, replaced or added.
struct Draft {
  std::string architecture = "llama";
  std::uint32_t heads = 4, kv_heads = 2, layers = 1, context = 64;
  std::optional<std::uint32_t> mlp = 48;
  std::string missing = {};                    ///< name of a tensor that is left out
  std::string reshaped = {};                   ///< name of a tensor with a wrong shape
  std::function<void(GgufWriter&)> more = {};  ///< further keys and tensors
  bool epsilon = true;                         ///< whether it has one of its own

  [[nodiscard]] Result<DecoderFile> read() const {
    GgufWriter file;
    file.set("general.architecture", architecture);
    const std::string prefix = architecture + ".";
    file.set(prefix + "block_count", layers);
    file.set(prefix + "context_length", context);
    file.set(prefix + "embedding_length", std::uint32_t{32});
    if (mlp) file.set(prefix + "feed_forward_length", *mlp);
    file.set(prefix + "attention.head_count", heads);
    file.set(prefix + "attention.head_count_kv", kv_heads);
    if (epsilon) file.set(prefix + "attention.layer_norm_rms_epsilon", 1e-5F);
    const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape) {
      if (name == missing) return;
      if (name == reshaped) shape[0] += 1;
      std::uint64_t values = 1;
      for (const auto extent : shape) values *= extent;
      const std::vector<float> zeros(values);
      file.add_tensor(name, shape, GgufType::f32, std::span<const float>(zeros));
    };
    add("token_embd.weight", {32, 50});
    add("output_norm.weight", {32});
    for (std::uint32_t l = 0; l < std::min(layers, 2U); ++l) {
      const std::string block = "blk." + std::to_string(l) + ".";
      for (const auto* norm : {"attn_norm.weight", "ffn_norm.weight"}) add(block + norm, {32});
      for (const auto* square : {"attn_q.weight", "attn_output.weight"}) add(block + square, {32, 32});
      for (const auto* half : {"attn_k.weight", "attn_v.weight"}) add(block + half, {32, 16});
      for (const auto* wide : {"ffn_gate.weight", "ffn_up.weight"}) add(block + wide, {32, 48});
      add(block + "ffn_down.weight", {48, 32});
    }
    if (more) more(file);
    const auto bytes = file.bytes();
    const auto opened = GgufFile::from_memory(bytes, "draft.gguf");
    if (!opened) return propagate(opened);
    auto read = DecoderFile::read(*opened, ElementType::f16);
    if (read) {  // views would outlive the bytes
      read->layers.clear();
      read->embedding = read->output = read->output_norm = nullptr;
    }
    return read;
  }
};

void check_refused(const Draft& draft, ErrorCode code, std::string_view word) {
  const auto read = draft.read();
  CAPTURE(word);
  REQUIRE(!read);
  CAPTURE(read.error().message);
  CHECK(name(read.error().code) == name(code));
  CHECK(read.error().message.find(word) != std::string::npos);
}

}  // namespace

TEST_CASE("a tiny model of each architecture is read whole") {
  for (const std::string architecture : {"llama", "qwen2"})
    for (const bool tied : {true, false}) {
      const auto bytes = krul::testing::tiny_model({.architecture = architecture, .layers = 3, .tied = tied});
      const auto file = GgufFile::from_memory(bytes, "tiny.gguf");
      REQUIRE(file);
      const auto model = DecoderFile::read(*file, ElementType::bf16);
      REQUIRE(model);
      CHECK(model->architecture == architecture);
      CHECK(model->geometry.layers == 3);
      CHECK(model->layers.size() == 3);
      CHECK(model->geometry.hidden == 64);
      CHECK(model->geometry.query_heads == 4);
      CHECK(model->geometry.kv_heads == 2);
      CHECK(model->geometry.head_dim == 16);
      CHECK(model->geometry.vocabulary == 320);
      CHECK(model->geometry.context == 1024);
      CHECK(model->geometry.cache_type == ElementType::bf16);
      CHECK(model->geometry.rotary.dimensions == 16);
      CHECK((model->geometry.rotary.pairs == RotaryPairs::interleaved) == (architecture == "llama"));
      CHECK((model->layers[0].query_bias != nullptr) == (architecture == "qwen2"));
      CHECK((model->output == model->embedding) == tied);
      CHECK(weights_hash(*file).size() == 32);
    }
}

TEST_CASE("what the file leaves open has the format's defaults") {
  const auto model = Draft{}.read();
  REQUIRE(model);
  CHECK(model->geometry.head_dim == 8);
  CHECK(model->geometry.rotary.dimensions == 8);
  CHECK(model->geometry.rotary.base == 10000.0);
}

TEST_CASE("what krul cannot run is refused by name") {
  check_refused({.architecture = "gpt2"}, ErrorCode::unsupported, "'gpt2'");
  check_refused({.architecture = "gpt2"}, ErrorCode::unsupported, "llama and qwen2");
  const auto with = [](std::function<void(GgufWriter&)> more) { return Draft{.more = std::move(more)}; };
  check_refused(with([](GgufWriter& file) { file.set("llama.rope.scaling.type", std::string("yarn")); }),
                ErrorCode::unsupported, "'yarn'");
  check_refused(with([](GgufWriter& file) { file.set("llama.rope.scale_linear", 4.0F); }), ErrorCode::unsupported,
                "rope.scale_linear");
  check_refused(with([](GgufWriter& file) {
                  const std::vector<float> factors(4);
                  file.add_tensor("rope_freqs.weight", {4}, GgufType::f32, std::span<const float>(factors));
                }),
                ErrorCode::unsupported, "rope_freqs.weight");
  for (const std::string name : {"output.bias", "blk.0.attn_output.bias", "blk.0.ffn_gate.bias", "blk.0.ffn_up.bias",
                                 "blk.0.ffn_down.bias", "blk.0.attn_q_norm.weight", "blk.0.attn_qkv.weight",
                                 "blk.0.ffn_norm.bias", "blk.0.attn_q.scale", "blk.1.attn_q.weight"})
    check_refused(with([&](GgufWriter& file) {
                    const std::vector<float> values(32);
                    file.add_tensor(name, {32}, GgufType::f32, std::span<const float>(values));
                  }),
                  ErrorCode::unsupported, "'" + name + "'");
}

TEST_CASE("keys of an architecture that change what is computed are refused by name") {
  const auto refused = [](const std::string& key, const auto& value) {
    for (const std::string architecture : {"llama", "qwen2"})
      check_refused(
          {.architecture = architecture, .more = [&](GgufWriter& file) { file.set(architecture + "." + key, value); }},
          ErrorCode::unsupported, "'" + architecture + "." + key + "'");
  };
  refused("attention.sliding_window", std::uint32_t{63});
  refused("expert_count", std::uint32_t{8});
  refused("expert_count", std::uint32_t{1});
  refused("attention.causal", false);
  refused("attention.scale", 0.5F);
  refused("attention.scale", std::numeric_limits<float>::quiet_NaN());
  refused("expert_count", std::vector<std::int32_t>{0, 8});
  refused("expert_count", std::vector<std::int32_t>{8, 8});
  refused("attention.clamp_kqv", 8.0F);
  refused("attn_logit_softcapping", 50.0F);
  refused("final_logit_softcapping", 30.0F);
  refused("logit_scale", 0.0625F);
  refused("embedding_scale", std::numeric_limits<float>::quiet_NaN());
  refused("rope.scaling.factor", 8.0F);
  refused("rope.scale_linear", 4.0F);
  refused("rope.scaling.attn_factor", 1.2F);
  refused("rope.dimension_sections", std::vector<std::int32_t>{1, 2});
  refused("attention.something_new", std::uint32_t{1});
}

TEST_CASE("a scale of scores is compared with sizes that are given for each layer") {
  for (const float scale : {1.0F, 1 / std::sqrt(8.0F)}) {
    const Draft draft{.more = [&](GgufWriter& file) {
      file.set("llama.attention.key_length", std::vector<std::int32_t>{8});
      file.set("llama.attention.scale", scale);
    }};
    if (scale == 1) check_refused(draft, ErrorCode::unsupported, "'llama.attention.scale'");
    if (scale != 1) CHECK(draft.read());
  }
}

TEST_CASE("keys that ask for nothing are no obstacle") {
  const auto loads = [](std::function<void(GgufWriter&)> more) {
    const auto read = Draft{.more = std::move(more)}.read();
    CHECK_MESSAGE(read, (read ? "" : read.error().message));
  };
  loads([](GgufWriter& file) { file.set("llama.expert_count", std::uint32_t{0}); });
  loads([](GgufWriter& file) {
    file.set("llama.rope.scaling.type", std::string("none"));
    file.set("llama.rope.scaling.factor", 0.0F);
  });
  loads([](GgufWriter& file) {  // a factor without a scaling that would use it
    file.set("llama.rope.scaling.type", std::string("none"));
    file.set("llama.rope.scaling.factor", 4.0F);
  });
  loads([](GgufWriter& file) {
    file.set("llama.rope.scaling.type", std::string("linear"));
    file.set("llama.rope.scaling.factor", 1.0F);
  });
  loads([](GgufWriter& file) { file.set("llama.rope.scale_linear", 0.0F); });
  loads([](GgufWriter& file) { file.set("llama.attention.scale", 0.0F); });
  loads([](GgufWriter& file) { file.set("llama.attention.scale", 1 / std::sqrt(8.0F)); });  // what it is anyway
  loads([](GgufWriter& file) { file.set("llama.expert_count", std::vector<std::int32_t>{0, 0}); });
  loads([](GgufWriter& file) { file.set("llama.attention.sliding_window", std::uint32_t{64}); });  // the whole context
  loads([](GgufWriter& file) { file.set("llama.attention.sliding_window", std::uint32_t{0}); });
  loads([](GgufWriter& file) { file.set("llama.attention.causal", true); });
  loads([](GgufWriter& file) { file.set("llama.logit_scale", 1.0F); });
  loads([](GgufWriter& file) { file.set("llama.vocab_size", std::uint32_t{7}); });
  loads([](GgufWriter& file) { file.set("general.license", std::string("none")); });
  loads([](GgufWriter& file) { file.set("other.attention.sliding_window", std::uint32_t{8}); });
}

TEST_CASE("a size for each layer is one size, or refused") {
  const auto with = [](std::vector<std::int32_t> widths, std::uint32_t layers = 1) {
    return Draft{
        .layers = layers, .mlp = {}, .more = [=](GgufWriter& file) { file.set("llama.feed_forward_length", widths); }};
  };
  CHECK(with({48}).read()->mlp == 48);
  CHECK(with({48, 48}, 2).read()->mlp == 48);
  check_refused(with({48, 48}), ErrorCode::corrupt, "feed_forward_length has 2 values");
  check_refused(with({48}, 2), ErrorCode::corrupt, "feed_forward_length has 1 values");
  check_refused(with({48, 64}), ErrorCode::unsupported, "differs from layer to layer");
  check_refused(with({-48}), ErrorCode::corrupt, "feed_forward_length");
  check_refused(with({}), ErrorCode::corrupt, "feed_forward_length");
}

TEST_CASE("numbers beyond what can be computed with are refused with the limits") {
  for (const double base :
       {0.0, -1.0, 1e-30, 0.5, 2e30, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
    check_refused({.more = [&](GgufWriter& file) { file.set("llama.rope.freq_base", base); }}, ErrorCode::corrupt,
                  "llama.rope.freq_base is ");
  for (const double epsilon : {0.0, -1e-5, 1e-300, 1e-40, 2e30, std::numeric_limits<double>::quiet_NaN()})
    check_refused({.more = [&](GgufWriter& file) { file.set("llama.attention.layer_norm_rms_epsilon", epsilon); },
                   .epsilon = false},
                  ErrorCode::corrupt, "krul takes 1e-30 to 1e+30");
  CHECK(Draft{.more = [](GgufWriter& file) { file.set("llama.rope.freq_base", 1.0F); }}.read());
}

TEST_CASE("a missing or misshapen tensor is named") {
  check_refused({.missing = "token_embd.weight"}, ErrorCode::not_found, "token_embd.weight");
  check_refused({.missing = "output_norm.weight"}, ErrorCode::not_found, "output_norm.weight");
  check_refused({.missing = "blk.0.ffn_down.weight"}, ErrorCode::not_found, "blk.0.ffn_down.weight");
  check_refused({.layers = 3}, ErrorCode::not_found, "blk.2.");
  check_refused({.reshaped = "blk.0.attn_k.weight"}, ErrorCode::corrupt, "16 x 33 in draft.gguf but should be 16 x 32");
  check_refused({.reshaped = "output_norm.weight"}, ErrorCode::corrupt, "output_norm.weight");
}

TEST_CASE("sizes that cannot be are refused before anything is allocated") {
  check_refused({.kv_heads = 3}, ErrorCode::corrupt, "attention heads");
  check_refused({.heads = 64}, ErrorCode::corrupt, "attention heads");
  check_refused({.heads = 0}, ErrorCode::corrupt, "head_count");
  check_refused({.layers = 1U << 30}, ErrorCode::too_large, "block_count");
  check_refused({.context = 1U << 31}, ErrorCode::too_large, "context_length");
  check_refused({.mlp = 0}, ErrorCode::corrupt, "feed_forward_length");
}

TEST_CASE("rows outside a tensor are a caller's mistake") {
  const auto bytes = krul::testing::tiny_model();
  const auto file = GgufFile::from_memory(bytes, "tiny.gguf");
  REQUIRE(file);
  const auto& tensor = *file->find("token_embd.weight");
  std::vector<float> row(64), uneven(65);
  CHECK(read_rows(tensor, 319, row));
  CHECK_THROWS_AS((void)read_rows(tensor, 320, row), PreconditionError);
  CHECK_THROWS_AS((void)read_rows(tensor, 0, uneven), PreconditionError);
  std::vector<FourBitBlock> blocks(2);
  CHECK_THROWS_AS((void)read_four_bit_rows(tensor, 0, blocks), PreconditionError);  // the tensor has no such type

  const auto coded_bytes = krul::testing::tiny_model({.weights = GgufType::q4_1});
  const auto coded_file = GgufFile::from_memory(coded_bytes, "tiny.gguf");
  REQUIRE(coded_file);
  const auto& coded = *coded_file->find("blk.0.attn_q.weight");
  const auto last = static_cast<std::size_t>(coded.shape[1]) - 1;
  blocks.resize(static_cast<std::size_t>(coded.shape[0]) / four_bit_values);
  CHECK(read_four_bit_rows(coded, last, blocks));
  std::vector<FourBitBlock> all(blocks.size() * (last + 1));
  CHECK(read_four_bit_rows(coded, 0, all));
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    CHECK(all[blocks.size() * last + i].scale == blocks[i].scale);
    CHECK(all[blocks.size() * last + i].minimum == blocks[i].minimum);
  }
  CHECK(blocks[0].scale != all[0].scale);
  CHECK_THROWS_AS((void)read_four_bit_rows(coded, last + 1, blocks), PreconditionError);
}
