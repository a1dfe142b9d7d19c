#pragma once

#include <cmath>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krul/similarity/attention_statistics.hpp"
#include "krul/similarity/row_attention.hpp"
#include "krul/store/manifest.hpp"

namespace krul::test {

/// All that a manifest says but the checksums of chunks, a line each that begins with the conversation's id. The second
/// reader writes the same.
class ManifestLines {
 public:
  /// @param minor  version that the bytes state
  ManifestLines(const Manifest& manifest, unsigned minor) : id_(manifest.conversation) {
    line("format", {1, minor});
    line("generation", {manifest.generation});
    line("rows", {manifest.rows});
    line("layers", {manifest.layers});
    line("block", {manifest.block});
    const Identity& identity = manifest.identity;
    for (const auto& text : {identity.architecture, identity.weights, identity.tokenizer, identity.geometry,
                             identity.profile, identity.kernels, identity.processor, identity.threads})
      line("identity", text);
    line("tokens", {manifest.tokens.begin(), manifest.tokens.end()});
    for (const std::string& object : manifest.objects) line("object", object);
    for (const SavePlanRecord& plan : manifest.plans) {
      line("plan", plan.strategy);
      line("codec", plan.codec);
      line("settings", plan.settings);
      line("profile", plan.profile);
      if (plan.measured_step) line("step", std::to_string(*plan.measured_step));
      for (const std::string& coder : plan.coders) line("coder", coder);
    }
    for (const ChunkRecord& chunk : manifest.chunks)
      line("chunk", {chunk.object, chunk.offset, chunk.bytes, chunk.codec, chunk.plan});
    line("writer", manifest.writer);
    line("saved", {manifest.saved_unix_s});
    if (!manifest.statistics.empty()) add(parse_attention_statistics(manifest.statistics).value());
    line("texts", manifest.texts);
    if (!manifest.row_attention.empty()) add(parse_row_attention(manifest.row_attention).value());
  }

  [[nodiscard]] const std::string& text() const noexcept { return text_; }

 private:
  void line(std::string_view name, std::string_view value) {
    ((text_ += id_) += ' ') += name;
    if (!value.empty()) (text_ += ' ') += value;
    text_ += '\n';
  }
  void line(std::string_view name, const std::vector<std::uint64_t>& numbers) {
    std::string all;
    for (const std::uint64_t number : numbers) all += (all.empty() ? "" : " ") + std::to_string(number);
    line(name, all);
  }
  void sums(std::string_view name, std::span<const double> values) {
    std::string all;
    for (const double value : values) {
      char digits[32];
      std::snprintf(digits, sizeof digits, "%s%.9g", all.empty() ? "" : " ", value);
      all += digits;
    }
    line(name, all);
  }
  void add(const AttentionStatistics& seen) {
    line("statistics", {seen.layers, seen.query_heads, seen.bins(), seen.rows});
    for (std::size_t i = 0; i + 1 < seen.layers; ++i)
      sums("distances", std::span(seen.squared).subspan(i * seen.layers + i + 1, seen.layers - i - 1));
    for (std::size_t layer = 0; layer < seen.layers; ++layer)
      sums("masses", std::span(seen.mass).subspan(layer * seen.bins(), seen.bins()));
  }
  void add(const RowAttention& seen) {
    sums("query-rows", {&seen.counted, 1});
    line("bands", {seen.band_layers.begin(), seen.band_layers.end()});
    for (std::size_t band = 0; band < seen.bands(); ++band) {
      std::vector<std::uint64_t> codes;  // as they are stored
      for (const float sum : std::span(seen.squares).subspan(band * seen.rows, seen.rows))
        codes.push_back(sum > 0 ? static_cast<std::uint64_t>(std::lround(8 * std::log2(sum)) + 160) : 0);
      line("received", codes);
    }
  }

  std::string id_, text_;
};

}  // namespace krul::test
