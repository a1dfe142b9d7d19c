#include "peer_options.hpp"

#include "krul/calibrate/calibrate.hpp"
#include "output_file.hpp"
#include "texts.hpp"

namespace krul::cli {
namespace {

constexpr std::size_t rank = 4096, calibration_tokens = 16384, longest = 1024, sample_every = 64;
constexpr std::size_t sinks = eval::KvtcSettings{}.sinks;  // are never coded

eval::KvtcBasis fit_basis(LoadedModel& model, const std::vector<std::string>& files, const Tool& tool) {
  CpuModel& backend = model.backend;
  const Geometry& geometry = backend.geometry();
  const std::size_t features = geometry.layers * geometry.kv_values();
  KvMoments moments(geometry, 0, std::array{geometry.layers});
  std::vector<float> keys, values;
  auto batch = backend.make_batch();
  for (const auto& text : load_conversations(files)) {
    if (moments.tokens() >= calibration_tokens) break;
    tool.progress("looking at conversations for KVTC: token " + std::to_string(moments.tokens()));
    auto tokens = encode_messages(model, text.messages, false);
    tokens.resize(std::min(tokens.size(), longest));
    if (tokens.size() <= sinks) continue;
    auto cache = backend.make_cache(tokens.size());
    prefill(backend, cache, batch, tokens, {});
    const auto rows = krul::detail::plain_rows(cache, geometry, {sinks, tokens.size()});
    moments.add(rows.keys, rows.values, {}, backend.workers());
    for (std::size_t at = 0; at < rows.keys.size(); at += sample_every * features) {
      keys.insert(keys.end(), &rows.keys[at], &rows.keys[at] + features);
      values.insert(values.end(), &rows.values[at], &rows.values[at] + features);
    }
  }
  if (moments.tokens() < 2) throw Failure({ErrorCode::invalid_argument, "--kvtc: no conversation is long enough"});
  tool.progress("fitting KVTC's basis");
  return eval::fit_kvtc_basis({moments, keys, values}, std::min(rank, features), backend.workers());
}

}  // namespace

CLI::Option* PeerOptions::add_to(CLI::App& verb) {
  auto* option = verb.add_option("--coders", coders,
                                 "also published coders of K and V, separated by commas: q4_0, kivi-BITS, kvtc-RATIO, "
                                 "kvtc-RATIO-w0 (without a recent window)")
                     ->delimiter(',');
  verb.add_option("--kvtc", conversations, "conversations that KVTC's basis is fitted to")->needs(option);
  verb.add_option("--kvtc-basis", basis, "the file that keeps KVTC's basis; read if it is there")->needs(option);
  return option;
}

std::vector<eval::PeerCoder> PeerOptions::load(LoadedModel& model, const Tool& tool) const {
  std::shared_ptr<const eval::KvtcBasis> fitted;
  const auto basis_source = [&] {
    if (fitted) return fitted;
    if (!basis.empty() && std::filesystem::exists(basis)) {
      const std::string bytes = unwrap(read_text(basis, std::size_t{4} << 30));
      fitted =
          std::make_shared<const eval::KvtcBasis>(unwrap(eval::kvtc_basis_from_bytes(std::as_bytes(std::span(bytes)))));
    } else if (conversations.empty()) {
      throw Failure({ErrorCode::invalid_argument, "kvtc is fitted to conversations: give it some with --kvtc FILE"});
    } else {
      fitted = std::make_shared<const eval::KvtcBasis>(fit_basis(model, conversations, tool));
      const auto bytes = eval::to_bytes(*fitted);
      if (!basis.empty()) write_file(basis, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    }
    return fitted;
  };
  std::vector<eval::PeerCoder> found;
  for (const auto& name : coders) found.push_back(unwrap(eval::PeerCoder::named(name, basis_source)));
  if (!fitted && (!conversations.empty() || !basis.empty()))
    throw Failure({ErrorCode::invalid_argument, "--kvtc and --kvtc-basis change nothing where no coder is kvtc-RATIO"});
  return found;
}

}  // namespace krul::cli
