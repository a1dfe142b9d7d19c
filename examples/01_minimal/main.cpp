#include <cstdio>
#include <krul/krul.hpp>

int main(int, char** arguments) {
  auto model = krul::load_model(arguments[1]).value();  // a GGUF file
  krul::MemoryStore store;                              // or krul::FileStore::open("folder").value()
  std::vector<float> logits(model.backend.geometry().vocabulary);
  auto tokens = model.tokenizer.encode("The garden has four beds. Beans climb in the first, squash fills the second.");
  {
    auto talk = krul::open_conversation(model.backend, store, "garden").value();
    talk.advance(tokens, logits).value();  // runs the model
    talk.save().value();
  }  // the KV cache is gone

  const auto more = model.tokenizer.encode(" What grows in the second bed?");
  tokens.insert(tokens.end(), more.begin(), more.end());
  auto talk = krul::open_conversation(model.backend, store, "garden").value();
  const krul::RestoreReport report = talk.advance(tokens, logits).value();  // restores, and runs what is new
  std::printf("%zu of %zu tokens came back from %zu bytes\n", report.matched, report.asked, std::size_t{report.bytes});
}
