#include "peer_options.hpp"

#include "bench.hpp"
#include "krul/eval/fit_kvtc.hpp"
#include "output_file.hpp"

namespace krul::cli {
namespace {

eval::KvtcBasis fit_basis(LoadedModel& model, const std::vector<std::string>& files, const Tool& tool) {
  std::vector<std::vector<Token>> texts;
  for (auto& text : token_texts(model, files)) texts.push_back(std::move(text.tokens));
  eval::KvtcFit fit;
  fit.progress = [&](std::size_t tokens) {
    tool.progress("looking at conversations for KVTC: token " + std::to_string(tokens));
  };
  return unwrap(eval::fit_kvtc(model.backend, texts, fit));
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
