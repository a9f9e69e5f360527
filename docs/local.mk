# docs/ - the man page and completions are made from the option tables
EXTRA_DIST += %D%/bise.1.in %D%/make-deb.sh
dist_doc_DATA += %D%/deploy.md
man_MANS = docs/bise.1
CLEANFILES += docs/bise.1 docs/bise.bash docs/_bise docs/bise.fish
docs/bise.1: $(srcdir)/docs/bise.1.in cli/docgen$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) docs && cli/docgen$(EXEEXT) man $(srcdir)/docs/bise.1.in >$@.tmp && mv $@.tmp $@
bashcompdir = $(datadir)/bash-completion/completions
bashcomp_DATA = docs/bise.bash
docs/bise.bash: cli/docgen$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) docs && cli/docgen$(EXEEXT) bash >$@.tmp && mv $@.tmp $@
zshcompdir = $(datadir)/zsh/site-functions
zshcomp_DATA = docs/_bise
docs/_bise: cli/docgen$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) docs && cli/docgen$(EXEEXT) zsh >$@.tmp && mv $@.tmp $@
fishcompdir = $(datadir)/fish/vendor_completions.d
fishcomp_DATA = docs/bise.fish
docs/bise.fish: cli/docgen$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) docs && cli/docgen$(EXEEXT) fish >$@.tmp && mv $@.tmp $@
# Headers that others may include, under include/bise as in the tree.
HEADER_FOLDERS = core formats kernels text model pipeline convert quantize \
  finetune deploy
# bash completes by the name of the command
install-data-hook:
	cd $(DESTDIR)$(bashcompdir) && mv -f bise.bash bise
	for d in $(HEADER_FOLDERS); do \
	  $(MKDIR_P) $(DESTDIR)$(includedir)/bise/$$d || exit 1; \
	  for f in $(srcdir)/$$d/*.h $(srcdir)/$$d/*.def; do \
	    case $$f in *_int.h | *\*.*) ;; \
	    *) $(INSTALL_DATA) $$f $(DESTDIR)$(includedir)/bise/$$d || exit 1 ;; \
	    esac; \
	  done; \
	done
uninstall-hook:
	rm -f $(DESTDIR)$(bashcompdir)/bise
	rm -rf $(DESTDIR)$(includedir)/bise
# Debian packages of this build, in the build folder
deb: all
	MAKE='$(MAKE)' sh $(srcdir)/docs/make-deb.sh $(srcdir) $(PACKAGE_VERSION)
.PHONY: deb
CLEANFILES += bise_*.deb libbise-dev_*.deb
TESTS += tests/cli/docs.sh tests/cli/deploy.sh tests/cli/deb.sh
EXTRA_DIST += tests/cli/docs.sh tests/cli/deploy.sh tests/cli/deb.sh
